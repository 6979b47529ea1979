"""What every journal promises, embedded or not."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.live.journal import Journal, JournalError
from serve.live.kafka import KafkaJournal, KafkaSettings
from serve.live.messages import TOPICS, Message
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings
from tests.serve.live.happenings import by_about, deletion, drain, engagement, eventually, post
from tests.services.broker import Broker

Open = Callable[[], Journal]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests here."""
    started = Broker(tmp_path_factory.mktemp("broker"))
    yield started
    started.close()


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.services)])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens a journal that is empty at first; a second call opens what another process would."""
    prefix = f"{uuid.uuid4().hex}."
    with contextlib.ExitStack() as opened:

        def new() -> Journal:
            journal: Journal
            if request.param == "sqlite":
                journal = SqliteJournal(SqliteSettings(path=str(tmp_path / "live" / "journal.db")))
            else:
                address = request.getfixturevalue("broker").address
                journal = KafkaJournal(
                    KafkaSettings(
                        brokers=address,
                        topic_prefix=prefix,
                        num_partitions=3,
                        replication=1,
                        session_timeout_s=6.0,
                    )
                )
            opened.callback(journal.close)
            return journal

        yield new


def test_what_was_written_is_read_unchanged(open_journal: Open):
    """Topic, key, id and body come out as they went in; those of one id in the order of writing."""
    written = [m for n in range(1, 9) for m in (post(n), engagement(n % 3 + 1, n), deletion(n))]
    journal = open_journal()
    assert journal.append(written) == [True] * len(written)
    with contextlib.closing(journal.reader(TOPICS)) as reader:
        read = drain(reader, len(written))
        assert sorted(read, key=repr) == sorted(written, key=repr)
        assert by_about(read) == by_about(written)


def test_a_key_is_written_once(open_journal: Open):
    """Of one key in one request, or in two of one process, the first is written and counts."""
    journal = open_journal()
    first, second = engagement(1, 1, "a"), engagement(1, 2, "a")
    assert journal.append([first, second, engagement(1, 3, "b")]) == [True, False, True]
    assert journal.append([second]) == [False]
    with contextlib.closing(journal.reader(["engagements"])) as reader:
        assert drain(reader, 2) == [first, engagement(1, 3, "b")]
        assert reader.poll(10, 0.2) == []


def test_a_client_cannot_take_the_key_of_a_post(open_journal: Open):
    """An engagement that is named like a post does not keep the post out."""
    journal = open_journal()
    assert journal.append([engagement(1, 1, "post/7/1000")]) == [True]
    assert journal.append([post(7)]) == [True]


def test_only_the_topics_asked_for_are_read(open_journal: Open):
    """A reader of posts is given no engagements, and is behind by posts alone."""
    journal = open_journal()
    journal.append([*(engagement(1, n) for n in range(1, 20)), post(1), engagement(2, 1), post(2)])
    with contextlib.closing(journal.reader(["posts"])) as reader:
        assert {m.key for m in drain(reader, 2)} == {"post/1/1000", "post/2/1000"}
        eventually(lambda: reader.lag() == 0)


def test_reading_goes_on_after_a_position(open_journal: Open):
    """A new reader from `position` is given all that the old one was not, and nothing else."""
    journal = open_journal()
    journal.append([post(n) for n in range(1, 21)])
    with contextlib.closing(journal.reader(["posts"])) as reader:
        before: list[Message] = []
        eventually(lambda: before.extend(reader.poll(4, 0.2)) or len(before) >= 8)
        position = reader.position()
    journal.append([post(n) for n in range(21, 31)])
    with contextlib.closing(open_journal().reader(["posts"], after=position)) as reader:
        after = drain(reader, 30 - len(before))
        assert reader.poll(10, 0.2) == []
    assert sorted(m.about for m in [*before, *after]) == list(range(1, 31))


def test_a_group_goes_on_from_its_commit(open_journal: Open):
    """What a group's reader committed is done; what it read and did not commit comes again."""
    journal = open_journal()
    journal.append([post(n) for n in range(1, 11)])
    with contextlib.closing(journal.reader(["posts"], group="g")) as reader:
        drain(reader, 10)
        reader.commit()
        journal.append([post(n) for n in range(11, 16)])
        drain(reader, 5)
    with contextlib.closing(open_journal().reader(["posts"], group="g")) as reader:
        assert sorted(m.about for m in drain(reader, 5)) == list(range(11, 16))
        assert reader.poll(10, 0.2) == []
        reader.commit()
        eventually(lambda: reader.lag() == 0)
    with contextlib.closing(journal.reader(["posts"], group="other")) as reader:
        assert len(drain(reader, 15)) == 15


def test_readers_of_a_group_share(open_journal: Open):
    """Five readers of a group, more than there are partitions, read each message once in all."""
    journal = open_journal()
    stop = threading.Event()
    found: list[Message] = []
    behind: dict[int, int | None] = {}

    def read(number: int) -> None:
        with contextlib.closing(journal.reader(["posts"], group="g")) as reader:
            while not stop.is_set():
                try:
                    found.extend(reader.poll(7, 0.1))
                    reader.commit()
                    behind[number] = reader.lag()
                except JournalError:
                    behind[number] = None

    with ThreadPoolExecutor(5) as pool:
        reading = [pool.submit(read, number) for number in range(5)]
        try:
            eventually(lambda: len(behind) == 5 and all(n == 0 for n in behind.values()))
            journal.append([post(n) for n in range(1, 101)])
            eventually(lambda: {m.about for m in list(found)} == set(range(1, 101)))
            eventually(lambda: all(n == 0 for n in behind.values()))
        finally:
            stop.set()
        for one in reading:
            one.result()
    assert len(found) == 100


def test_lag_counts_what_was_not_read(open_journal: Open):
    """It is all that was written, then what is left, then nothing; an empty journal has none."""
    journal = open_journal()
    with contextlib.closing(journal.reader(TOPICS)) as reader:
        assert reader.poll(10, 0.0) == []
        assert reader.lag() == 0
        for n in range(1, 13):  # one at a time: tansu counts the last batch as one message
            journal.append([post(n), engagement(n, n)])
        eventually(lambda: reader.lag() == 24)
        read: list[Message] = []
        eventually(lambda: read.extend(reader.poll(3, 0.2)) or len(read) >= 6)
        assert reader.lag() == 24 - len(read)
        drain(reader, 24 - len(read))
        assert reader.lag() == 0


def test_a_waiting_reader_is_given_what_comes(open_journal: Open):
    """A poll that began before the message was written returns it."""
    journal = open_journal()
    with (
        contextlib.closing(journal.reader(["posts"])) as reader,
        ThreadPoolExecutor(1) as pool,
    ):
        reader.poll(1, 0.0)
        coming = pool.submit(lambda: reader.poll(10, 30.0))
        journal.append([post(1)])
        assert coming.result() == [post(1)]


def test_many_threads_may_write(open_journal: Open):
    """What eight threads write at once is all there, each thread's in its order."""
    journal = open_journal()

    def write(user_id: int) -> None:
        for n in range(1, 21):
            assert journal.append([engagement(user_id, n), engagement(user_id, n)]) == [True, False]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(1, 9)))
    with contextlib.closing(journal.reader(["engagements"])) as reader:
        read = by_about(drain(reader, 160))
    assert read == {
        ("engagements", user_id): [f"{user_id}/{n}/favorite/3000" for n in range(1, 21)]
        for user_id in range(1, 9)
    }


def test_wrong_questions_are_refused(open_journal: Open):
    """An unknown topic names the near miss; a group takes no position; closed means closed."""
    journal = open_journal()
    with pytest.raises(ValueError, match="did you mean 'posts'"):
        journal.reader(["post"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no topic"):
        journal.reader([])
    with pytest.raises(ValueError, match="'g'"):
        journal.reader(["posts"], group="g", after={})
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append([post(1)])

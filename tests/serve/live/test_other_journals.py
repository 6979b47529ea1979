"""Reading a journal that is not as it was left, and messages that others wrote."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.live.journal import Journal
from serve.live.kafka import KafkaJournal, KafkaSettings
from serve.live.messages import TOPICS, Message, in_order
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings
from tests.serve.live.happenings import deletion, drain, eventually, post


@pytest.fixture
def brokers() -> Iterator[str]:
    """The address of a broker that the client library brings, with its topics."""
    kafka = pytest.importorskip("confluent_kafka")
    cluster = kafka.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    address = f"{broker.host}:{broker.port}"
    makes = kafka.Producer({"bootstrap.servers": address, "log_level": 2})
    for topic in TOPICS:
        makes.list_topics(f"rayfeed.{topic}", timeout=10)
    yield address
    cluster.flush()  # it lasts as long as this client


@pytest.fixture(params=["sqlite", "kafka"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    """A journal that is empty at first."""
    if request.param == "sqlite":
        opened: Journal = SqliteJournal(SqliteSettings(path=str(tmp_path / "journal.db")))
    else:
        opened = KafkaJournal(KafkaSettings(brokers=request.getfixturevalue("brokers")))
    yield opened
    opened.close()


def test_a_position_beyond_the_end_is_that_of_another_journal(journal: Journal):
    """All is read then, under another name, from which the next reader goes on."""
    messages = [post(n) for n in range(1, 8)]
    journal.append(messages)
    with contextlib.closing(journal.reader(TOPICS)) as reader:
        drain(reader, 7)
        position = reader.position()
    beyond = {part: at + 1_000 for part, at in position.items()}
    with contextlib.closing(journal.reader(TOPICS, after=beyond)) as reader:
        found = drain(reader, 7)
        eventually(lambda: reader.lag() == 0)
        after = reader.position()
    assert sorted(m.key for m in found) == sorted(m.key for m in messages)
    assert {m.place[0] for m in found if m.place} == set(after)
    assert sorted(after.values()) == sorted(position.values())
    assert not set(after) & set(position)
    journal.append([post(8)])
    with contextlib.closing(journal.reader(TOPICS, after=after)) as reader:
        assert [m.key for m in drain(reader, 1)] == ["post/8/1000"]


def test_what_others_write_is_in_order(brokers: str):
    """A post of a message that bears no name of ours is told from its body, so parts keep order."""
    kafka = importlib.import_module("confluent_kafka")
    makes = kafka.Producer({"bootstrap.servers": brokers, "log_level": 2})
    told = [post(7, at_ms=2_000), deletion(7, 3_000), post(7, at_ms=4_000), post(8)]
    for one in told:
        makes.produce("rayfeed.posts", value=one.body, partition=0)
    makes.produce("rayfeed.posts", value=b"no JSON", partition=0)
    makes.flush(10)
    with (
        contextlib.closing(KafkaJournal(KafkaSettings(brokers=brokers))) as journal,
        contextlib.closing(journal.reader(["posts"])) as reader,
    ):
        found = drain(reader, 5)
    assert [m.about for m in found] == [7, 7, 7, 8, 0]
    assert [len(part) for part in in_order(found)] == [1, 1, 2, 1]


def test_what_speaks_of_nobody_knows_which_post_is_alone():
    """Nothing before or after it is told at once with it, since it may be of the same post."""
    unknown = Message("posts", "x", 0, b"")
    parts = in_order([post(1), post(2), unknown, unknown, post(3), deletion(3)])
    assert [len(part) for part in parts] == [2, 1, 1, 2]

"""The follower hands every view all that happened, and is ready whatever comes in between."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from serve.live.follower import Checkpoint, Follower, FollowerSettings
from serve.live.journal import JournalError, Reader
from serve.live.messages import Happened, Message, Topic, View
from serve.live.sqlite import SqliteJournal, SqliteReader
from serve.live.sqlite_file import SqliteSettings
from tests.serve.live.happenings import (
    PATIENCE_S,
    Seen,
    deletion,
    engagement,
    eventually,
    poison,
    post,
)
from tests.serve.live.killed import num_engagements

QUICK = FollowerSettings(first_retry_s=0.001, last_retry_s=0.01, poll_timeout_s=0.02)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    """A journal that is empty at first."""
    opened = SqliteJournal(SqliteSettings(path=str(tmp_path / "journal.db")))
    yield opened
    opened.close()


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Where dead letters go."""
    return tmp_path / "dead" / "letters.jsonl"


class Failing(Seen):
    """A view whose store is out while `out` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.out = threading.Event()
        self.out.set()
        self.tries = 0

    def apply(self, happened: Happened) -> None:
        self.tries += 1
        if self.out.is_set():
            raise ConnectionError("the store is out")
        super().apply(happened)


class Out:
    """A journal that cannot be read while `out` is set, and gives everything twice."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self.out = threading.Event()

    def append(self, messages: Sequence[Message]) -> list[bool]:
        return self._journal.append(messages)

    def reader(
        self,
        topics: Sequence[Topic],
        group: str | None = None,
        after: Mapping[str, int] | None = None,
    ) -> Reader:
        return _OutReader(self._journal.reader(topics, group, after), self.out)

    def identity(self) -> str:
        return self._journal.identity()

    def close(self) -> None:
        self._journal.close()


class _OutReader:
    def __init__(self, reader: SqliteReader, out: threading.Event) -> None:
        self._reader = reader
        self._out = out

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        if self._out.is_set():
            raise JournalError("the journal is out")
        return [m for m in self._reader.poll(max_messages, timeout_s) for _ in range(2)]

    def commit(self) -> None:
        self._reader.commit()

    def lag(self) -> int:
        if self._out.is_set():
            raise JournalError("the journal is out")
        return self._reader.lag()

    def position(self) -> Mapping[str, int]:
        return self._reader.position()

    def close(self) -> None:
        self._reader.close()


@contextlib.contextmanager
def following(
    journal: SqliteJournal | Out,
    letters: Path,
    *views: View,
    group: str | None = None,
    after: Mapping[str, int] | None = None,
    seen: Mapping | None = None,
    checkpoint: Checkpoint | None = None,
    **settings: float,
) -> Iterator[Follower]:
    """A follower that retries at once, closed at the end."""
    follower = Follower(
        journal,
        views,
        group=group,
        after=after,
        seen=seen,
        checkpoint=checkpoint,
        dead_letters=str(letters),
        settings=QUICK.model_copy(update=settings),
    )
    try:
        yield follower
    finally:
        follower.close()


@pytest.mark.parametrize("max_messages", [1, 3, 1_000])
def test_every_view_is_told_everything_in_order(
    journal: SqliteJournal, letters: Path, max_messages: int
):
    """Batches of any size, down to one, lead to the same, and to being caught up."""
    journal.append([post(n) for n in range(1, 8)])
    views = Seen(), Seen()
    with following(journal, letters, *views, max_messages=max_messages) as follower:
        eventually(lambda: follower.caught_up)
        assert views[0].told == [f"post/{n}" for n in range(1, 8)]
        journal.append([deletion(3), engagement(1, 1, "liked")])
        eventually(lambda: follower.num_applied == 9)
        eventually(lambda: len(views[1].told) == 9)
        eventually(lambda: follower.lag == 0 or follower.problem)
        assert follower.problem is None
    assert views[0].told == views[1].told
    assert views[0].told[7:] == ["deletion/3", "1/liked"]
    assert not letters.exists()


def test_an_empty_journal_is_caught_up(journal: SqliteJournal, letters: Path):
    """Where nothing happened yet there is nothing to wait for."""
    with following(journal, letters, Seen()) as follower:
        eventually(lambda: follower.caught_up)
        assert follower.lag == 0


def test_poison_is_put_aside_once(
    journal: SqliteJournal, letters: Path, caplog: pytest.LogCaptureFixture
):
    """What cannot be read is kept with the reason and holds nothing up, nor after a restart."""
    wrong = Message("posts", "wrong", 5, b'{"kind": "post", "post_id": 0, "author_id": 1}')
    journal.append([poison("p1"), post(1), wrong, post(2), poison("p2")])
    for _ in range(2):
        view = Seen()
        with following(journal, letters, view, max_messages=1) as follower:
            eventually(lambda: follower.caught_up)
            assert view.told == ["post/1", "post/2"]
            assert (follower.num_poison, follower.num_applied) == (3, 2)
            assert follower.problem is None
    kept = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [one["key"] for one in kept] == ["p1", "wrong", "p2"]
    assert "post_id" in kept[1]["reason"]
    assert kept[1]["body"] == wrong.body.decode()
    assert "body_base64" in kept[0]
    assert "engagements p1: cannot be read" in caplog.text


def test_a_failing_view_holds_up_no_other(journal: SqliteJournal, letters: Path):
    """Others are told everything once meanwhile; it gets everything, in order, when it works."""
    good, bad = Seen(), Failing()
    expected = [f"post/{n}" for n in range(1, 21)]
    journal.append([post(n) for n in range(1, 21)])
    with following(journal, letters, bad, good, group="g", max_messages=3) as follower:
        eventually(lambda: good.told == expected)
        eventually(lambda: bad.tries > 2)
        assert "Failing: " in str(follower.problem)
        assert "the store is out" in str(follower.problem)
        assert not follower.caught_up
        bad.out.clear()
        eventually(lambda: bad.told == expected)
        eventually(lambda: follower.caught_up and follower.problem is None)
    assert good.told == expected


def test_nothing_is_committed_before_every_view_has_it(journal: SqliteJournal, letters: Path):
    """A follower that ends while a view fails leaves all of it to the next of its group."""
    journal.append([post(n) for n in range(1, 6)])
    good, bad = Seen(), Failing()
    with following(journal, letters, good, bad, group="g"):
        eventually(lambda: len(good.told) == 5 and bad.tries)
    bad.out.clear()
    again = Seen()
    with following(journal, letters, again, bad, group="g") as follower:
        eventually(lambda: follower.caught_up)
    assert again.told == bad.told == good.told
    third = Seen()
    with following(journal, letters, third, group="g") as follower:
        eventually(lambda: follower.caught_up)
    assert third.told == []


@pytest.mark.parametrize("group", [None, "g"])
@pytest.mark.parametrize("copies", [False, True])
def test_a_view_that_is_out_for_long_is_told_all(
    journal: SqliteJournal, letters: Path, group: str | None, copies: bool
):
    """Past what is kept for it the journal is read again: all are told everything, and once."""
    good, bad = Seen(), Failing()
    expected = [f"post/{n}" for n in range(1, 31)]
    with following(
        Out(journal) if copies else journal,
        letters,
        *(good, bad),
        group=group,
        max_messages=2,
        max_waiting=5,
    ) as follower:
        for n in range(1, 31):
            journal.append([post(n)])
        eventually(lambda: good.told == expected)
        bad.out.clear()
        eventually(lambda: len(set(bad.told)) == 30)
        eventually(lambda: follower.caught_up and follower.problem is None)
        eventually(lambda: follower.lag == 0)
        assert follower.num_applied == 30
    assert good.told == bad.told == expected


def test_a_journal_that_is_out_is_a_problem_until_it_is_back(journal: SqliteJournal, letters: Path):
    """Dead at the start or later: not caught up, it says why, and it goes on by itself."""
    dead = Out(journal)
    dead.out.set()
    journal.append([post(1)])
    view = Seen()
    with following(dead, letters, view) as follower:
        eventually(lambda: follower.problem == "the journal is out")
        assert not follower.caught_up
        dead.out.clear()
        eventually(lambda: follower.caught_up and follower.problem is None)
        dead.out.set()
        eventually(lambda: follower.problem == "the journal is out")
        assert follower.caught_up
        journal.append([post(2)])
        dead.out.clear()
        eventually(lambda: view.told == ["post/1", "post/2"])


def test_repeats_are_dropped(journal: SqliteJournal, letters: Path):
    """A journal that gives each message twice leads to views that are told once."""
    view = Seen()
    journal.append([post(1), engagement(1, 1, "post/1")])
    with following(Out(journal), letters, view) as follower:
        eventually(lambda: follower.caught_up)
        assert follower.num_applied == 2
    assert view.told == ["post/1", "1/post/1"]


def test_a_copy_from_before_a_position_is_known(journal: SqliteJournal, letters: Path):
    """What was seen before a checkpoint does not count again when a second copy comes after it."""
    points: list[tuple] = []
    journal.append([engagement(1, 1, "a"), engagement(1, 2, "b")])
    keep: Checkpoint = lambda position, seen: points.append((dict(position), dict(seen)))  # noqa: E731
    with following(journal, letters, Seen(), checkpoint=keep) as follower:
        eventually(lambda: follower.caught_up)
    position, seen = points[-1]
    with sqlite3.connect(journal._settings.path) as connection:  # as a journal without keys may
        connection.execute("UPDATE messages SET key = 'other' WHERE offset = 1")
    connection.close()
    journal.append([engagement(1, 1, "a"), engagement(1, 3, "c")])
    view = Seen()
    with following(journal, letters, view, after=position, seen=seen) as follower:
        eventually(lambda: follower.caught_up)
    assert view.told == ["1/c"]


def test_a_post_after_its_deletion_is_told_later(journal: SqliteJournal, letters: Path):
    """A view may take a batch's posts first and its deletions then, and ends where order does."""
    view = Seen()
    journal.append([post(1), deletion(1, 2), post(2), post(1, at_ms=3), deletion(1, 4), post(3)])
    with following(journal, letters, view) as follower:
        eventually(lambda: follower.caught_up)
    told = ["post/1", "post/2", "deletion/1", "post/1", "post/3", "deletion/1"]
    assert (view.told, view.batches) == (told, 2)


def test_what_was_applied_and_not_committed_counts_once(journal: SqliteJournal, tmp_path: Path):
    """A process killed in between leaves nothing out of the store of viewers, and nothing twice."""
    journal.append([post(1), *(engagement(1, n, f"e{n}", at_ms=3_000 + n) for n in range(1, 20))])
    command = [sys.executable, "-m", "tests.serve.live.killed", str(tmp_path)]
    killed = subprocess.run(command, timeout=PATIENCE_S, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert num_engagements(str(tmp_path)) == 19
    with following(
        SqliteJournal(journal._settings), tmp_path / "letters", Seen(), group="g"
    ) as follower:
        eventually(lambda: follower.num_applied == 20)
    assert num_engagements(str(tmp_path)) == 19


def test_a_snapshot_resumes(journal: SqliteJournal, letters: Path):
    """One that begins at another's position is told what came after it, and only that."""
    journal.append([post(n) for n in range(1, 6)])
    with following(journal, letters, Seen()) as follower:
        eventually(lambda: follower.caught_up)
        position = follower.position
    journal.append([post(6)])
    view = Seen()
    with following(journal, letters, view, after=position) as follower:
        eventually(lambda: follower.caught_up)
    assert view.told == ["post/6"]


def test_a_position_is_that_of_the_last_view(journal: SqliteJournal, letters: Path):
    """A position never lies beyond what a failing view has."""
    good, bad = Seen(), Failing()
    journal.append([post(1)])
    with following(journal, letters, good, bad) as follower:
        eventually(lambda: good.told and bad.tries)
        position = follower.position
    view = Seen()
    with following(journal, letters, view, after=position) as follower:
        eventually(lambda: follower.caught_up)
    assert view.told == ["post/1"]


def test_gathering_makes_few_batches(journal: SqliteJournal, letters: Path):
    """Once caught up, a follower that gathers waits until there is a batch."""
    view = Seen()
    with following(journal, letters, view, gather_s=3600.0, max_messages=10) as follower:
        eventually(lambda: follower.caught_up)
        for n in range(1, 21):
            journal.append([post(n)])
        eventually(lambda: len(view.told) == 20)
    assert view.batches == 2

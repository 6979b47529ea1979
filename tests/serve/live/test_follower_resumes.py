"""A follower goes on where another left off: nothing is left out, and nothing counts twice."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from serve.live.follower import Checkpoint
from serve.live.sqlite import SqliteJournal
from tests.serve.live.followers import Failing, following
from tests.serve.live.happenings import PATIENCE_S, Seen, engagement, eventually, post
from tests.serve.live.killed import num_engagements


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

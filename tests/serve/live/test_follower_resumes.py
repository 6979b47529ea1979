"""A follower goes on where another left off: nothing is left out, and nothing counts twice."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from serve.live.follower import Checkpoint
from serve.live.sqlite import SqliteJournal
from serve.live.viewers import ViewerActions
from serve.stores.viewers.sqlite import SqliteSettings as ViewersInFile
from serve.stores.viewers.sqlite import SqliteViewers
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
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    store = SqliteViewers(ViewersInFile(path=str(tmp_path / "viewers.db")))
    view = ViewerActions(store, loop)
    with following(
        SqliteJournal(journal._settings), tmp_path / "letters", view, group="g"
    ) as follower:
        eventually(lambda: follower.num_applied == 20)
    asyncio.run_coroutine_threadsafe(store.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    running.join()
    loop.close()
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


def restore(path: str, backup: Path) -> None:
    """Put the backup in the place of a journal, as who restores a file does."""
    for end in ("", "-wal", "-shm"):
        Path(path + end).unlink(missing_ok=True)
    shutil.copy(backup, f"{path}.new")
    Path(f"{path}.new").rename(path)


@pytest.mark.parametrize("group", [None, "g"])
@pytest.mark.parametrize("running", [True, False])
def test_a_journal_that_ends_before_a_position_is_read(
    journal: SqliteJournal, letters: Path, tmp_path: Path, group: str | None, running: bool
):
    """A file that comes from a backup is read on, by who follows it and by who starts after it.

    What was seen of it before is not told again.
    """
    path, backup = journal._settings.path, tmp_path / "backup.db"
    journal.append([engagement(1, 1, "a"), engagement(1, 2, "b")])
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(backup)) as copy:
        connection.backup(copy)
    journal.append([engagement(1, n, str(n)) for n in range(3, 30)])
    points: list[tuple] = []
    keep: Checkpoint = lambda position, seen: points.append((dict(position), dict(seen)))  # noqa: E731
    view = Seen()
    with following(journal, letters, view, group=group, checkpoint=keep) as follower:
        eventually(lambda: follower.caught_up and len(view.told) == 29)
        if running:
            restore(path, backup)
            SqliteJournal(journal._settings).append([engagement(1, 99, "z")])
            eventually(lambda: view.told[29:])
            assert view.told[29:] == ["1/z"]
            return
    restore(path, backup)
    SqliteJournal(journal._settings).append([engagement(1, 99, "z")])
    view, (after, seen) = Seen(), points[-1]
    started = {} if group else {"after": after, "seen": seen}
    with following(journal, letters, view, group=group, **started) as follower:
        eventually(lambda: follower.caught_up and view.told)
        assert view.told == (["1/a", "1/b", "1/z"] if group else ["1/z"])
        assert follower.lag == 0

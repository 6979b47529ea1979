"""The embedded journal loses nothing that it acknowledged, whoever else writes or dies."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.live import sqlite
from serve.live.journal import JournalError
from serve.live.messages import TOPICS, Message
from serve.live.sqlite import SqliteJournal, SqliteReader
from serve.live.sqlite_file import SqliteSettings
from tests.serve.live.happenings import engagement, eventually, post


@pytest.fixture
def place(tmp_path: Path) -> SqliteSettings:
    """A journal that nobody waits for."""
    return SqliteSettings(path=str(tmp_path / "journal.db"), busy_timeout_s=0.0)


@pytest.fixture
def journal(place: SqliteSettings) -> Iterator[SqliteJournal]:
    """A journal that is empty at first."""
    opened = SqliteJournal(place)
    yield opened
    opened.close()


def _keys(place: SqliteSettings) -> list[str]:
    with contextlib.closing(SqliteReader(place, TOPICS, None, {})) as reader:
        return [m.key for m in reader.poll(1_000_000, 0.0)]


@pytest.mark.parametrize("max_bytes", [0, 2_000_000], ids=["killed", "disk full"])
def test_what_was_acknowledged_outlives_the_writer(place: SqliteSettings, max_bytes: int):
    """All that a process called written is there after SIGKILL, and after a disk that filled up."""
    command = [sys.executable, "-m", "tests.serve.live.writer", place.path, str(max_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [line.strip() for _, line in zip(range(400), writer.stdout, strict=False)]
        if max_bytes == 0:
            writer.kill()
        told += [line.strip() for line in writer.stdout if line.endswith("\n")]
    if max_bytes:
        refusal = told.pop()
        assert refusal.startswith(f"refused {place.path}: cannot write: ")
    assert len(told) >= 400
    kept = _keys(place)
    assert set(told) <= set(kept)
    assert len(kept) == len(set(kept))
    with contextlib.closing(SqliteJournal(place)) as journal:
        again = [engagement(1, 2), engagement(9, 9)]
        assert journal.append(again) == [False, True]


def test_a_key_is_new_to_one_process(place: SqliteSettings):
    """Of two journals on one file that write the same keys, one is told that each is new."""
    patient = place.model_copy(update={"busy_timeout_s": 60.0})
    journals = [SqliteJournal(patient) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        news = list(pool.map(lambda j: [j.append([post(n)])[0] for n in range(1, 101)], journals))
    for journal in journals:
        journal.close()
    assert all(a != b for a, b in zip(*news, strict=True))
    assert len(_keys(place)) == 100


def test_waiting_threads_share_a_commit(place: SqliteSettings, monkeypatch: pytest.MonkeyPatch):
    """Requests that come while the disk is busy are written by one commit."""
    commits = []
    busy, waited = threading.Event(), threading.Event()

    @contextmanager
    def slow(connection: sqlite3.Connection) -> Iterator[None]:
        commits.append(1)
        busy.set()
        assert waited.wait(60)
        with original(connection):
            yield

    original = sqlite.transaction
    monkeypatch.setattr(sqlite, "transaction", slow)
    journal = SqliteJournal(place)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(journal.append, [post(1)])
        assert busy.wait(60)
        rest = [pool.submit(journal.append, [post(n), post(n)]) for n in range(2, 10)]
        eventually(lambda: journal._requests.qsize() == 8)
        waited.set()
        assert first.result() == [True]
        assert [one.result() for one in rest] == [[True, False]] * 8
    journal.close()
    assert len(commits) == 2


def test_one_bad_message_is_its_own_callers_alone(place: SqliteSettings, journal: SqliteJournal):
    """An id that no file can hold fails its request and none that shared the commit."""
    with ThreadPoolExecutor(8) as pool:
        bad = [pool.submit(journal.append, [Message("posts", "bad", 2**70, b"")]) for _ in range(4)]
        good = [pool.submit(journal.append, [post(n)]) for n in range(1, 5)]
        assert [one.result() for one in good] == [[True]] * 4
        for one in bad:
            with pytest.raises(OverflowError):
                one.result()
    assert sorted(_keys(place)) == [f"post/{n}/1000" for n in range(1, 5)]


def _locked(place: SqliteSettings) -> Callable[[], None]:
    SqliteJournal(place).reader(TOPICS).poll(1, 0.0)
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    return other.close


def _garbage(place: SqliteSettings) -> Callable[[], None]:
    path = Path(place.path)
    path.write_bytes(b"this is no database " * 500)
    return path.unlink


def _folder(place: SqliteSettings) -> Callable[[], None]:
    path = Path(place.path)
    path.mkdir()
    return path.rmdir


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(_locked, "locked"), (_garbage, "not a database"), (_folder, "unable to open")],
)
def test_a_file_that_refuses_is_named_and_tried_again(
    place: SqliteSettings,
    journal: SqliteJournal,
    spoil: Callable[[SqliteSettings], Callable[[], None]],
    reason: str,
):
    """The error says which file and why; once the file is good again, so is the journal."""
    mend = spoil(place)
    with pytest.raises(JournalError, match=f"journal.db: cannot write: .*{reason}"):
        journal.append([post(1)])
    reader = journal.reader(TOPICS, group="g")
    with pytest.raises(JournalError, match=f"journal.db: cannot read: .*{reason}"):
        reader.poll(1, 0.0)
    mend()
    assert journal.append([post(1)]) == [True]
    assert reader.poll(1, 0.0) == [post(1)]
    reader.close()


def test_a_silent_reader_is_replaced(place: SqliteSettings, journal: SqliteJournal):
    """Past its lease a group's reader loses its turn, cannot commit, and says so."""
    hasty = place.model_copy(update={"lease_s": 1e-6})
    journal.append([post(1), post(2)])
    slow = SqliteReader(hasty, TOPICS, "g", {})
    assert slow.poll(1, 0.0) == [post(1)]
    with contextlib.closing(journal.reader(TOPICS, group="g")) as next_one:
        assert next_one.poll(5, 0.0) == [post(1), post(2)]
        with pytest.raises(JournalError, match="'g' went to another reader"):
            slow.commit()
        assert slow.poll(5, 0.0) == []
        next_one.commit()
    assert slow.poll(5, 0.0) == []
    journal.append([post(3)])
    assert slow.poll(5, 0.0) == [post(3)]
    slow.close()


def test_old_messages_are_deleted(
    place: SqliteSettings, journal: SqliteJournal, caplog: pytest.LogCaptureFixture
):
    """What is older than keep_days goes, with a word on who had not read it; the rest stays."""
    journal.append([post(n) for n in range(1, 6)])
    with contextlib.closing(journal.reader(TOPICS, group="late")) as late:
        assert late.poll(2, 0.0) == [post(1), post(2)]
        late.commit()
    with contextlib.closing(sqlite3.connect(place.path)) as file, file:
        file.execute("UPDATE messages SET written_at_ms = 0 WHERE offset <= 4")
    with caplog.at_level(logging.WARNING), contextlib.closing(SqliteJournal(place)) as other:
        other.append([post(6)])
    assert _keys(place) == ["post/5/1000", "post/6/1000"]
    assert "groups late had not committed" in caplog.text
    with contextlib.closing(journal.reader(TOPICS)) as reader:
        assert reader.poll(1, 0.0) == [post(5)]
        assert reader.lag() == 1


def test_a_position_in_another_file_is_its_beginning(place: SqliteSettings, tmp_path: Path):
    """A reader that goes on in a file that took the place of its own misses nothing there."""
    other = place.model_copy(update={"path": str(tmp_path / "other.db")})
    with contextlib.closing(SqliteJournal(other)) as journal:
        journal.append([post(n) for n in range(1, 10)])
        reader = journal.reader(TOPICS)
        reader.poll(9, 0.0)
        reader.close()
    with contextlib.closing(SqliteJournal(place)) as journal:
        journal.append([post(77)])
        new = journal.reader(TOPICS, after=reader.position())
        assert new.poll(9, 0.0) == [post(77)]
        new.close()


def test_a_file_that_was_taken_away_is_made_anew(place: SqliteSettings, journal: SqliteJournal):
    """What is acknowledged after someone deleted the file is in the new one, and is read."""
    journal.append([post(1)])
    reader = journal.reader(TOPICS)
    assert reader.poll(5, 0.0) == [post(1)]
    for path in Path(place.path).parent.glob("journal.db*"):
        path.unlink()
    assert journal.append([post(2)]) == [True]
    assert reader.poll(5, 0.0) == [post(2)]
    assert _keys(place) == ["post/2/1000"]
    reader.close()

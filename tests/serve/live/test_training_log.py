"""The training log holds each event once, in whole files, whatever comes twice and whoever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.schema import DELETIONS, ENGAGEMENTS, POSTS, TableSchema
from serve.live.follower import Follower, FollowerSettings
from serve.live.messages import Message, happened
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings
from serve.live.training_log import TrainingLog
from tests.serve.live.happenings import deletion, engagement, eventually, names, post


def _read(directory: Path, table: TableSchema) -> pa.Table:
    files = sorted((directory / table.name).glob("*.parquet"))
    read = [pq.read_table(file) for file in files]
    return pa.concat_tables([table.arrow.empty_table(), *read])


def _keys(directory: Path) -> list[str]:
    return [
        *(f"post/{n}" for n in _read(directory, POSTS)["post_id"].to_pylist()),
        *(f"deletion/{n}" for n in _read(directory, DELETIONS)["post_id"].to_pylist()),
        *(f"{r['user_id']}/{r['event_id']}" for r in _read(directory, ENGAGEMENTS).to_pylist()),
    ]


def _one(number: int) -> Message:
    kind = number % 3
    if kind == 0:
        return post(number + 1)
    return deletion(number) if kind == 1 else engagement(1, number, f"e{number}")


def test_files_follow_the_contracts(tmp_path: Path):
    """Files hold the columns of the schema, as they were sent; nothing else lies beside them."""
    events, _ = happened([post(7, 3, 5_000, "hello"), deletion(7), engagement(1, 7)])
    TrainingLog(tmp_path).apply(events)
    for table in (POSTS, DELETIONS, ENGAGEMENTS):
        rows = _read(tmp_path, table)
        assert rows.schema == table.arrow
        assert rows.equals(getattr(events, table.name))
        assert [path.suffix for path in (tmp_path / table.name).iterdir()] == [".parquet"]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.lists(st.integers(1, 20), max_size=8), st.booleans()), max_size=8))
def test_each_event_is_there_once(tmp_path_factory, batches):
    """Whatever is repeated, within a batch, later, or to a process that began anew."""
    directory = tmp_path_factory.mktemp("log")
    log, sent = TrainingLog(directory), []
    for numbers, restart in batches:
        log = TrainingLog(directory) if restart else log
        events, _ = happened([_one(n) for n in numbers])
        log.apply(events)
        sent += names(events)
    kept = _keys(directory)
    assert len(kept) == len(set(kept))
    assert set(kept) == set(sent)


def test_two_processes_write_each_event_once(tmp_path: Path):
    """What another process wrote before is not written again."""
    first, second = TrainingLog(tmp_path), TrainingLog(tmp_path)
    first.apply(happened([post(1), engagement(1, 1, "a")])[0])
    second.apply(happened([post(1), post(2), engagement(1, 1, "a")])[0])
    first.apply(happened([post(2), post(3)])[0])
    assert sorted(_keys(tmp_path)) == ["1/a", "post/1", "post/2", "post/3"]


def test_what_is_remembered_is_bounded(tmp_path: Path):
    """Keys past `max_keys` are forgotten, the oldest first, by a new process as well."""
    log = TrainingLog(tmp_path, max_keys=3)
    for n in range(1, 6):
        log.apply(happened([post(n)])[0])
    for other in (log, TrainingLog(tmp_path, max_keys=3)):
        other.apply(happened([post(3), post(4), post(5)])[0])
    assert len(_keys(tmp_path)) == 5
    log.apply(happened([post(1)])[0])
    assert len(_keys(tmp_path)) == 6


def test_a_disk_that_refuses_loses_nothing(tmp_path: Path):
    """An error leaves the batch to come again; what of it was written is not written twice."""
    log = TrainingLog(tmp_path)
    folder = tmp_path / "engagements"
    folder.rmdir()
    folder.write_text("in the way")
    events, _ = happened([post(1), engagement(1, 1, "a")])
    with pytest.raises(OSError, match="engagements"):
        log.apply(events)
    folder.unlink()
    folder.mkdir()
    log.apply(events)
    assert _keys(tmp_path) == ["post/1", "1/a"]


_FOLLOW = """
import os, signal, sys, time
from serve.live.follower import Follower, FollowerSettings
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings
from serve.live.training_log import TrainingLog
class Told(TrainingLog):
    left = int(sys.argv[3])
    def apply(self, happened):
        super().apply(happened)
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
follower = Follower(SqliteJournal(SqliteSettings(path=sys.argv[1], lease_s=0.2)),
                    [Told(sys.argv[2])], group="log", dead_letters=sys.argv[2] + "/dead",
                    settings=FollowerSettings(max_messages=7))
time.sleep(600)
"""


def test_nothing_is_lost_or_doubled_when_the_writer_is_killed(tmp_path: Path):
    """Killed between a file and its commit, again and again, the next process completes the log."""
    place = SqliteSettings(path=str(tmp_path / "journal.db"), lease_s=0.2)
    journal = SqliteJournal(place)
    sent = [m for n in range(1, 101) for m in (post(n), engagement(1, n, f"e{n}"))]
    journal.append(sent)
    directory = tmp_path / "log"
    for num_files in (1, 3, 2):
        command = [sys.executable, "-c", _FOLLOW, place.path, str(directory), str(num_files)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(_keys(directory)) == 7 * 4  # six batches, of which two came again
    follower = Follower(
        journal,
        [TrainingLog(directory)],
        group="log",
        dead_letters=str(tmp_path / "dead"),
        settings=FollowerSettings(max_messages=50),
    )
    eventually(lambda: len(_keys(directory)) >= len(sent))
    follower.close()
    journal.close()
    assert sorted(_keys(directory)) == sorted(m.key.removesuffix("/1000") for m in sent)

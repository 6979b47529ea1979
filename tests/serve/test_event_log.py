"""The event log loses nothing that it said was written, and never shows half a file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.schema import EVENTS
from serve.stores.event_log import EventLog, impressions


def _read(directory: Path) -> pa.Table:
    tables = [pq.read_table(path) for path in sorted(directory.glob("*.parquet"))]
    return pa.concat_tables([EVENTS.arrow.empty_table(), *tables])


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=20),
    st.integers(1, 10),
    st.lists(st.integers(0, 19), max_size=3),
)
def test_rows_in_are_rows_out(tmp_path_factory, page_sizes, max_rows, flush_after):
    """Across any rotation the files hold the rows that went in, once each and in order."""
    directory = tmp_path_factory.mktemp("log")
    log = EventLog(directory, "w", max_rows=max_rows, max_age_s=60)
    pages = [
        impressions(1 + n, f"r{n}", 1000 + n, 0, np.arange(1, size + 1))
        for n, size in enumerate(page_sizes)
    ]
    for number, page in enumerate(pages):
        log.append(page)
        if number in flush_after:
            log.flush()
    log.close()
    assert _read(directory).equals(pa.concat_tables([EVENTS.arrow.empty_table(), *pages]))


def test_an_impression_follows_the_contract():
    """A row has the columns of schema.EVENTS; what was not observed is null."""
    rows = impressions(7, "abc", 5000, 2, np.array([30, 10]))
    assert rows.schema == EVENTS.arrow
    rows.validate(full=True)
    assert rows.select(["event_id", "user_id", "post_id", "surface", "position"]).to_pylist() == [
        {"event_id": "abc/0", "user_id": 7, "post_id": 30, "surface": 2, "position": 0},
        {"event_id": "abc/1", "user_id": 7, "post_id": 10, "surface": 2, "position": 1},
    ]
    assert rows["favorite"].null_count == rows["dwell_s"].null_count == 2


def test_a_quiet_log_is_written_after_its_age(tmp_path):
    """Rows reach the disk within `max_age_s` though no more rows come."""
    log = EventLog(tmp_path, "w", max_rows=1000, max_age_s=0.05)
    log.append(impressions(1, "r", 1, 0, np.array([1])))
    _wait_until(lambda: len(_read(tmp_path)) == 1)
    log.close()


def test_a_disk_that_refuses_is_tried_again(tmp_path, monkeypatch):
    """Rows that could not be written stay buffered, up to the bound, and are written later."""
    log = EventLog(tmp_path, "w", max_rows=1000, max_age_s=60, max_buffered_rows=3)
    for n in range(5):
        log.append(impressions(1, f"r{n}", 1, 0, np.array([1])))
    with monkeypatch.context() as refusing:
        refusing.setattr(os, "fsync", _refuse)
        with pytest.raises(OSError, match="disk full"):
            log.flush()
    assert len(_read(tmp_path)) == 0
    log.close()
    assert _read(tmp_path)["request_id"].to_pylist() == ["r2", "r3", "r4"]


def test_any_error_is_tried_again(tmp_path, monkeypatch):
    """The thread survives an error of any kind, says what it was, and then loses nothing."""

    def invalid(*_):
        raise pa.ArrowInvalid("no such type")

    log = EventLog(tmp_path, "w", max_rows=1000, max_age_s=0.01, max_buffered_rows=2)
    with monkeypatch.context() as refusing:
        refusing.setattr(pq, "write_table", invalid)
        for n in range(3):
            log.append(impressions(1, f"r{n}", 1, 0, np.array([1])))
        _wait_until(lambda: log.problem)
        assert "ArrowInvalid('no such type')" in str(log.problem)
    _wait_until(lambda: len(_read(tmp_path)) == 2)
    log.close()
    assert _read(tmp_path)["request_id"].to_pylist() == ["r1", "r2"]
    assert (log.problem, log.num_lost) == (None, 1)


def test_a_killed_writer_leaves_whole_files(tmp_path):
    """After kill -9 at any moment every file is readable and no written row is missing."""
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_for_ever, args=(tmp_path,))
    writer.start()
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("*.parquet"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    numbers = _read(tmp_path)["shown_at_ms"].to_pylist()
    assert len(numbers) >= 5
    assert numbers == list(range(len(numbers)))


def _wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def _refuse(_: int) -> None:
    raise OSError("disk full")


def _write_for_ever(directory: Path) -> None:
    log = EventLog(directory, "w", max_rows=50, max_age_s=60)
    number = 0
    while True:
        log.append(impressions(1, "r", number, 0, np.array([1])))
        number += 1
        time.sleep(0.0001)

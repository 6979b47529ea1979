"""Appends rows as Parquet files: served impressions, in the contract that `pipelines.data` reads.

A file appears under its final name only when it is whole and on disk, so a reader
never meets half a file, whenever the process dies. What dies with the process is the
buffer: at most the rows of the last `max_age_s` seconds.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.schema import DAY_MS, EVENTS

_log = logging.getLogger(__name__)


class EventLog:
    """One writer's part of the log: files `<name>-<writer>-<sequence>.parquet`.

    `append` only fills a buffer; a thread writes it out as one file once it holds
    `max_rows` rows, and every `max_age_s` seconds whatever it holds. What could not be
    written, for whatever reason, is tried again with the next write; past
    `max_buffered_rows` the oldest rows are given up, and each loss is logged.

    Attributes:
        problem: why the last write failed; None if it did not.
        num_lost: rows given up since the start.
    """

    def __init__(
        self,
        directory: str | Path,
        writer: str,
        *,
        name: str = "events",
        max_rows: int = 10_000,
        max_age_s: float = 10.0,
        max_buffered_rows: int = 100_000,
    ) -> None:
        """Start writing under `directory`, which is made if needed.

        Args:
            directory: where files go; on a cluster, one that outlives the machine.
            writer: name of this process, never used by another: no two share a file.
            name: what the rows are; all of one log have the same columns.
            max_rows: rows that make a file at once.
            max_age_s: seconds that a row waits in memory, at most.
            max_buffered_rows: rows kept in memory while the disk refuses.
        """
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._writer, self._name = writer, name
        self._max_rows = max_rows
        self._max_age_s = max_age_s
        self._max_buffered_rows = max_buffered_rows
        self._sequence = 0
        self._buffer: list[pa.Table] = []
        self._num_rows = 0
        self.problem: str | None = None
        self.num_lost = 0
        self._due = threading.Event()
        self._closing = threading.Event()
        self._buffering = threading.Lock()  # guards the buffer, held for moments
        self._writing = threading.Lock()  # guards the files, held while the disk works
        self._thread = threading.Thread(target=self._run, name=f"log of {name}", daemon=True)
        self._thread.start()

    def append(self, rows: pa.Table) -> None:
        """Add `rows`; does not wait for the disk."""
        with self._buffering:
            self._buffer.append(rows)
            self._num_rows += len(rows)
            self._give_up_oldest()
            if self._num_rows >= self._max_rows:
                self._due.set()

    def flush(self) -> None:
        """Write out what is buffered; returns when it is on disk.

        Raises:
            Exception: of any kind, such as OSError from a disk that refuses; the rows
                stay buffered and `problem` says why.
        """
        with self._writing:
            with self._buffering:
                rows, self._buffer, self._num_rows = self._buffer, [], 0
            if not rows:
                return
            try:
                self._write(pa.concat_tables(rows))
            except Exception as error:  # pyarrow has many kinds, and none may cost rows
                self.problem = f"{self._directory}: {self._name} not written, will retry: {error!r}"
                with self._buffering:
                    self._buffer = [*rows, *self._buffer]
                    self._num_rows = sum(map(len, self._buffer))
                    self._give_up_oldest()
                raise
            self.problem = None

    def close(self) -> None:
        """Write out what is buffered and stop; later calls do nothing.

        Raises:
            Exception: as for `flush`.
        """
        self._closing.set()
        self._due.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._due.wait(self._max_age_s)
            self._due.clear()
            try:
                self.flush()
            except Exception:  # the next try may work, if this thread lives to make it
                _log.error(self.problem)
                self._closing.wait(self._max_age_s)

    def _write(self, rows: pa.Table) -> None:
        name = f"{self._name}-{self._writer}-{self._sequence:06d}.parquet"
        unfinished = self._directory / f".{name}.unfinished"
        with unfinished.open("wb") as file:
            pq.write_table(rows, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._directory / name)
        folder = os.open(self._directory, os.O_RDONLY)  # the new name must last, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._sequence += 1

    def _give_up_oldest(self) -> None:
        while self._num_rows > self._max_buffered_rows:
            lost = len(self._buffer.pop(0))
            self._num_rows -= lost
            self.num_lost += lost
            _log.error("%s: %d %s lost: buffer full", self._directory, lost, self._name)


@lru_cache(maxsize=256)
def _nothing(num: int, kind: pa.DataType) -> pa.Array:
    """So many nulls; pages are of few lengths."""
    return pa.nulls(num, kind)


def impressions(
    user_id: int, request_id: str, now_ms: int, surface: int, post_id: NDArray[np.int64]
) -> pa.Table:
    """One served page [n], top first, as rows of schema.EVENTS.

    What the viewer does with the posts is not known yet: every action is null. Days are UTC.
    """
    num = len(post_id)
    values = {
        "event_id": [f"{request_id}/{position}" for position in range(num)],
        "user_id": np.full(num, user_id, np.int64),
        "post_id": post_id,
        "shown_at_ms": np.full(num, now_ms, np.int64),
        "log_date": np.full(num, now_ms // DAY_MS, np.int32),
        "surface": np.full(num, surface, np.int16),
        "position": np.arange(num, dtype=np.int16),
        "request_id": [request_id] * num,
    }
    columns = [
        pa.array(values[field.name], field.type)
        if field.name in values
        else _nothing(num, field.type)
        for field in EVENTS.arrow
    ]
    return pa.Table.from_arrays(columns, schema=EVENTS.arrow)

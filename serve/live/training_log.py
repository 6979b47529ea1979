"""What happened, as Parquet files in the contracts of the data job: tomorrow's training data."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.schema import DELETIONS, ENGAGEMENTS, POSTS, TableSchema
from pipelines.whole import new_file
from serve.live.messages import Happened

_log = logging.getLogger(__name__)
_TABLES = (POSTS, DELETIONS, ENGAGEMENTS)


@dataclass(frozen=True)
class _Table:
    schema: TableSchema
    folder: Path
    read: set[str]  # files whose keys are known
    keys: dict[tuple, None]  # of rows on disk, oldest first; no more than are needed


class TrainingLog:
    """A view that writes `<directory>/posts/*.parquet`, `deletions` and `engagements`.

    Each `apply` makes one whole file a table, on disk when it returns, so that a follower may
    commit: make one of a group of its own that gathers for a minute (`gather_s`), or there are many
    small files. What comes again, after a crash between writing and committing or from a caller
    who sent it twice, is in the files already and not written again. Rows are in the order in
    which they came; of two of one key the first counts.

    Several processes may write to one directory. Should two be given the same messages at the same
    moment, as when a group's share moves, a row may be there twice; the data job takes equal rows
    for one.
    """

    def __init__(self, directory: str | Path, *, max_keys: int = 1_000_000) -> None:
        """Make the folders, and read the keys of the newest files.

        Args:
            directory: where files go; on a cluster, one that outlives the machine.
            max_keys: keys of each table that are remembered; more than come twice at most.

        Raises:
            OSError: the folder cannot be made or read.
        """
        self._directory = Path(directory)
        self._max_keys = max_keys
        self._tables = {
            schema.name: _Table(schema, self._directory / schema.name, set(), {})
            for schema in _TABLES
        }
        for table in self._tables.values():
            table.folder.mkdir(parents=True, exist_ok=True)
            self._learn(table)

    def apply(self, happened: Happened) -> None:
        """Write what is new; it lasts when this returns.

        Raises:
            OSError: the disk refused; what of it was written is known when it comes again.
        """
        for name, table in self._tables.items():
            rows: pa.Table = getattr(happened, name)
            if not len(rows):
                continue
            self._learn(table)
            names = _keys(rows, table.schema)
            new: dict[tuple, int] = {}
            for row, key in enumerate(names):
                if key not in table.keys:
                    new.setdefault(key, row)
            if new:
                file = f"{time.time_ns() // 1_000_000:013d}-{uuid.uuid4().hex[:12]}.parquet"
                with new_file(table.folder / file, durable=True) as unfinished:
                    pq.write_table(rows.take(list(new.values())), unfinished)
                table.read.add(file)
                self._remember(table, list(new))

    def _learn(self, table: _Table) -> None:
        """Read the keys of files that are not known: of earlier runs, or of other processes."""
        found = sorted((path.name for path in table.folder.glob("*.parquet")), reverse=True)
        newer: list[list[tuple]] = []
        num = 0
        for name in found:
            if name in table.read:
                continue
            table.read.add(name)
            if num >= self._max_keys:
                continue
            try:
                rows = pq.read_table(table.folder / name, columns=list(table.schema.key))
            except (OSError, pa.ArrowException) as error:
                _log.error(
                    "%s: not read, so what is in it may be written again: %s",
                    table.folder / name,
                    error,
                )
                continue
            newer.append(_keys(rows, table.schema))
            num += len(rows)
        for names in reversed(newer):
            self._remember(table, names)

    def _remember(self, table: _Table, names: Sequence[tuple]) -> None:
        table.keys.update(dict.fromkeys(names))
        for old in list(islice(table.keys, max(0, len(table.keys) - self._max_keys))):
            del table.keys[old]


def _keys(rows: pa.Table, schema: TableSchema) -> list[tuple]:
    columns = [rows[name].to_pylist() for name in schema.key]
    return list(zip(*columns, strict=True))

"""Reads what was served and what viewers told, checked, and deals it out by viewer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.data import check, tables
from pipelines.data.attribution import IMPRESSIONS
from pipelines.data.files import BATCH_ROWS
from pipelines.data.reader import Batch, Fragment, InputError
from pipelines.data.scatter import deal, partition_of, read_partition
from pipelines.schema import ACTION_NAMES, ENGAGEMENTS, EVENTS, TableSchema

_OUTCOMES = [name for name in EVENTS.arrow.names if name in (*ACTION_NAMES, "dwell_s")]


class Parts:
    """Rows dealt out by viewer into files of a scratch folder.

    Attributes:
        num: partitions; a viewer's rows of all kinds are in the same one.
        newest_ms: when the newest impression was shown; None before any was dealt.
    """

    def __init__(self, scratch: Path, num: int) -> None:
        self.scratch, self.num = scratch, num
        self.newest_ms: int | None = None

    def deal(self, name: str, pieces: Iterable[pa.Table], schema: pa.Schema) -> list[str]:
        """Files for `read_partition`; small pieces share one."""
        paths = []
        for at, table in enumerate(_joined(pieces, schema)):
            if "shown_at_ms" in schema.names:
                self.newest_ms = max(self.newest_ms or 0, pc.max(table["shown_at_ms"]).as_py())
            part = partition_of(table["user_id"].to_numpy(), self.num)
            paths.append(deal(table, part, self.num, f"{self.scratch}/{name}-{at:06d}"))
        return paths

    def read(self, paths: Sequence[str], partition: int, schema: pa.Schema) -> pl.DataFrame:
        """All rows of some viewers."""
        return pl.DataFrame(read_partition(paths, partition, schema))


def _joined(pieces: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in tables of about BATCH_ROWS: a feed leaves many small files."""
    held: list[pa.Table] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= BATCH_ROWS:
            yield pa.concat_tables(held)
            held = []
    if sum(map(len, held)):
        yield pa.concat_tables(held)


def impressions(fragments: Sequence[Fragment], now_ms: int) -> Iterator[pa.Table]:
    """Impressions whose outcome is not known, with where each came from; columns of IMPRESSIONS.

    Raises:
        InputError: a row that breaks the contract, is shown in the future or has an outcome.
    """
    for number, fragment in enumerate(fragments):
        for batch in tables.read(fragment, EVENTS):
            checked = _checked(batch, fragment, EVENTS, now_ms)
            for name in _OUTCOMES:
                known = pc.is_valid(checked.table[name])
                _refuse(known, checked, fragment, name, "its outcome is known already")
            columns = [checked.table[name] for name in IMPRESSIONS.names[:-2]]
            numbers = np.full(len(checked.row), number, np.int32)
            yield pa.table([*columns, numbers, checked.row], schema=IMPRESSIONS)


def engagements(fragments: Sequence[Fragment]) -> Iterator[pa.Table]:
    """Engagements, columns of schema.ENGAGEMENTS; one client's clock may be in the future.

    Raises:
        InputError: a row that breaks the contract.
    """
    for fragment in fragments:
        for batch in tables.read(fragment, ENGAGEMENTS):
            checked = _checked(batch, fragment, ENGAGEMENTS, check.MAX_INT64)
            stayed = pc.equal(checked.table["action"], "dwell_time")
            measured = pc.is_valid(checked.table["dwell_s"])
            reason = "dwell_s belongs to action dwell_time, and dwell_time needs it"
            _refuse(pc.xor(stayed, measured), checked, fragment, "dwell_s", reason)
            yield checked.table


def _checked(batch: Batch, fragment: Fragment, table: TableSchema, now_ms: int) -> check.Checked:
    checked = check.rows(batch, fragment, table, now_ms, {})
    if checked.rejected:
        raise InputError(str(min(checked.rejected, key=lambda bad: bad.row)))
    return checked


def _refuse(
    bad: pa.ChunkedArray, checked: check.Checked, fragment: Fragment, column: str, reason: str
) -> None:
    at = np.flatnonzero(bad.to_numpy())
    if len(at):
        value = checked.table[column][int(at[0])].as_py()
        place = f"{fragment.path}: row {checked.row[at[0]]}, column {column}"
        raise InputError(f"{place}: {value!r}: {reason}")

"""Holds tables against the contract: every row is either as declared or named and refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AwareDatetime, NonNegativeInt

from configs import Config, near_miss
from pipelines.data.reader import UNMAPPED, Batch, Fragment, InputError, Rejected
from pipelines.schema import Column, TableSchema

MAX_SURFACE = 15
MAX_INT64 = int(np.iinfo(np.int64).max)
MAX_FLOAT32 = float(np.finfo(np.float32).max)


class CheckSettings(Config):
    """How strict a run is."""

    max_bad_rows: NonNegativeInt = 0  # refused rows that a run survives, all tables together
    now: AwareDatetime | None = None  # nothing may be newer; null = the clock when the run starts


@dataclass(frozen=True)
class Checked:
    """Rows as declared, the row of the file each came from, and the rows refused."""

    table: pa.Table
    row: NDArray[np.int64]
    rejected: list[Rejected]


@dataclass(frozen=True)
class Known:
    """Ids that a column may refer to: of which table, sorted. int64 [n]."""

    table: str
    ids: NDArray[np.int64]

    def missing(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `ids` are not in the table. bool [n]."""
        if not len(self.ids):
            return np.ones(len(ids), bool)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return self.ids[at] != ids


def columns(found: pa.Schema, table: TableSchema, path: str) -> None:
    """Check names and types of the columns of a file.

    Raises:
        InputError: a column is missing, there twice, unknown (the near miss is named) or of a
            type that does not fit without loss.
    """
    declared = {c.name: c for c in table.columns}
    for field in found:
        if found.names.count(field.name) > 1:
            raise InputError(f"{path}: column {field.name!r} is there twice")
        if field.name not in declared:
            raise InputError(unknown_column(path, field.name, list(declared)))
        expected = declared[field.name].dtype
        if not _fits(field.type, expected):
            raise InputError(
                f"{path}: column {field.name!r} is {field.type}; {table.name} need {expected}"
            )
    for name in table.required:
        if name not in found.names:
            raise InputError(f"{path}: column {name!r} is missing{near_miss(name, found.names)}")


def unknown_column(place: str, name: str, have: Sequence[str]) -> str:
    """Text of the error for a column that no table declares."""
    return f"{place}: unknown column {name!r}{near_miss(name, have)}"


def rows(
    batch: Batch, fragment: Fragment, table: TableSchema, now_ms: int, refs: Mapping[str, Known]
) -> Checked:
    """Check every value of a batch whose columns fit `table`.

    Args:
        batch: contract columns; those it lacks become null.
        fragment: where it came from, for messages.
        table: what it must look like.
        now_ms: no instant may be later; ms since 1970-01-01 UTC.
        refs: column -> ids it may hold.

    Returns:
        Rows in the order of the batch with the columns of `table.arrow`, UNMAPPED after them if the
        batch has it. A row with several faults is refused once, for its first column.
    """
    rejected = list(batch.rejected)
    bad = np.zeros(batch.table.num_rows, bool)
    given = set(batch.table.column_names)
    for column in table.columns:
        values = _values(batch.table, column) if column.name in given else None
        for mask, reason in _faults(values, column, len(bad), now_ms, refs.get(column.name)):
            for at in np.flatnonzero(mask & ~bad):
                value = None if values is None else values[int(at)].as_py()
                place = (table.name, fragment.path, int(batch.row[at]), column.name)
                rejected.append(Rejected(*place, repr(value), reason))
            bad |= mask
    good, row = batch.table, batch.row
    if bad.any():
        good, row = good.filter(pa.array(~bad)), row[~bad]
    return Checked(_conform(good, table), row, rejected)


def unique(tables: Sequence[tuple[Checked, Fragment]], table: TableSchema) -> tuple[Checked, int]:
    """Join the pieces of one small table; equal rows become one, a key names one row.

    Returns:
        The table sorted by key, with all rows refused so far and those whose key an earlier
        row of other content has; and the number of equal rows left out.
    """
    rejected = [bad for checked, _ in tables for bad in checked.rejected]
    joined = pa.concat_tables([table.arrow.empty_table(), *(c.table for c, _ in tables)])
    piece = np.repeat(np.arange(len(tables)), [len(checked.row) for checked, _ in tables])
    row = np.concatenate([np.empty(0, np.int64), *(checked.row for checked, _ in tables)])
    frame = pl.DataFrame(joined).with_row_index("_at")
    content = frame.unique(subset=joined.column_names, keep="first", maintain_order=True)
    first = content.unique(subset=table.key, keep="first", maintain_order=True)
    others = content.join(first, on="_at", how="anti").select(*table.key, "_at")
    origins = first.select(*table.key, _first="_at")
    for *key, at, origin in others.join(origins, on=table.key, maintain_order="left").iter_rows():
        path, other = (tables[piece[i]][1].path for i in (at, origin))
        reason = f"duplicate key: {other} row {row[origin]} differs"
        value = ", ".join(map(repr, key))
        rejected.append(
            Rejected(table.name, path, int(row[at]), ", ".join(table.key), value, reason)
        )
    kept = first.sort(table.key)["_at"].to_numpy()
    return Checked(joined.take(kept), row[kept], rejected), len(frame) - len(content)


def _fits(found: pa.DataType, expected: pa.DataType) -> bool:
    types = pa.types
    if types.is_list(expected):
        is_list = types.is_list(found) or types.is_large_list(found)
        return is_list and _fits(found.value_type, expected.value_type)
    if types.is_null(found):
        return True
    if types.is_string(expected):
        inner = found.value_type if types.is_dictionary(found) else found
        return types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner)
    if types.is_floating(expected):
        return types.is_floating(found) or types.is_integer(found)
    if types.is_date(expected):
        return types.is_date(found)
    if types.is_boolean(expected):
        return types.is_boolean(found) or types.is_integer(found)  # 0 and 1
    return types.is_integer(found)


def _values(table: pa.Table, column: Column) -> pa.ChunkedArray:
    """The column at its widest type, so that a value out of range is still seen."""
    values = table[column.name]
    if pa.types.is_integer(values.type) and not _beyond_int64(values):
        return values.cast(pa.int64())
    if pa.types.is_null(values.type) or pa.types.is_float16(values.type):
        return values.cast(column.dtype)
    return values


def _beyond_int64(values: pa.ChunkedArray | pa.Array) -> bool:
    return values.type == pa.uint64() and (pc.max(values).as_py() or 0) > MAX_INT64


def _faults(
    values: pa.ChunkedArray | None, column: Column, num_rows: int, now_ms: int, known: Known | None
) -> Iterable[tuple[NDArray[np.bool_], str]]:
    """Masks bool [n] of the rows that break a rule of the column, with the rule."""
    null = "null; this column must have a value"
    if values is None:
        if not column.null and num_rows:
            yield np.ones(num_rows, bool), null
        return
    if not column.null and values.null_count:
        yield _mask(pc.is_null(values)), null
    low, high = _bounds(column, now_ms)
    if pa.types.is_list(column.dtype):
        if low is not None:
            yield from _list_faults(values, low)
        return
    if low is not None:
        if high is None and _beyond_int64(values):
            high = MAX_INT64
        if high is None and pa.types.is_floating(values.type):
            high = MAX_FLOAT32
        yield from _out_of_range(values, column, low, high)
    if known is not None:
        ids = pc.fill_null(values, 0).to_numpy().astype(np.int64, copy=False)
        present = _mask(pc.is_valid(values))
        missing = known.missing(ids) & present
        if missing.any():
            yield missing, f"dangling id: not among the {len(known.ids):,} rows of {known.table}"


def _bounds(column: Column, now_ms: int) -> tuple[int | None, float | None]:
    """Smallest and largest value allowed; None = any."""
    if column.name.endswith(("_id", "_ids")) and column.dtype != pa.string():
        return 1, None
    if _is_instant(column):
        return 0, now_ms
    if column.name == "surface":
        return 0, MAX_SURFACE
    if column.name == "position":
        return 0, np.iinfo(np.int16).max
    if column.name.endswith("_s") or column.name.startswith("num_") or column.name == "did":
        return 0, None
    return (0, 1) if pa.types.is_boolean(column.dtype) else (None, None)


def _is_instant(column: Column) -> bool:
    return column.name.endswith("_at_ms") or column.name in ("at_ms", "as_of_ms")


def _out_of_range(
    values: pa.ChunkedArray, column: Column, low: int, high: float | None
) -> Iterable[tuple[NDArray[np.bool_], str]]:
    if pa.types.is_boolean(values.type) or pa.types.is_null(values.type):
        return
    if pa.types.is_floating(values.type):
        odd = ~np.isfinite(values.to_numpy()) & _mask(pc.is_valid(values))
        if odd.any():
            yield odd, "not finite; leave it null where it was not measured"
    ends = pc.min_max(values).as_py()
    if ends["min"] is not None and ends["min"] < low:
        allowed = "not negative" if low == 0 else f"at least {low}"
        yield _mask(pc.less(values, pa.scalar(low, values.type))), f"too small; allowed: {allowed}"
    if high is not None and ends["max"] is not None and ends["max"] > high:
        rule = (
            f"in the future; now is {high}"
            if _is_instant(column)
            else f"too large; allowed: {low}..{high}"
        )
        yield _mask(pc.greater(values, pa.scalar(high, values.type))), rule


def _list_faults(values: pa.ChunkedArray, low: int) -> Iterable[tuple[NDArray[np.bool_], str]]:
    parents = pc.list_parent_indices(values).to_numpy()
    inner = pc.list_flatten(values).cast(pa.int64(), safe=False)  # beyond int64 turns negative
    wrong = _mask(pc.fill_null(pc.less(inner, low), True))
    if wrong.any():
        mask = np.zeros(len(values), bool)
        mask[parents[wrong]] = True
        yield mask, f"holds an entry that is null or out of range; allowed: {low}..{MAX_INT64}"


def _mask(flags: pa.ChunkedArray) -> NDArray[np.bool_]:
    return pc.fill_null(flags, False).to_numpy(zero_copy_only=False)


def _conform(table: pa.Table, schema: TableSchema) -> pa.Table:
    """Columns of the contract in its order and types; those not given are null."""
    arrays = [
        table[c.name].cast(c.dtype, safe=not pa.types.is_floating(c.dtype))
        if c.name in table.column_names
        else pa.chunked_array([pa.nulls(table.num_rows, c.dtype)])
        for c in schema.columns
    ]
    conformed = pa.Table.from_arrays(arrays, schema=schema.arrow)
    if UNMAPPED in table.column_names:
        return conformed.append_column(UNMAPPED, table[UNMAPPED])
    return conformed

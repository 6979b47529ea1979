"""First pass over the log: checks one fragment at a time and deals its rows out by viewer.

Each batch becomes one Arrow file in the scratch folder with one record batch a partition, so
that the second pass can pick a partition out of every file without reading the rest. Rows that
carry an event_id leave a second file, dealt out by event_id: two rows of one name may lie with
different viewers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.data import check
from pipelines.data.reader import UNMAPPED, Fragment, Reader, Rejected
from pipelines.data.split import SplitSettings, assign
from pipelines.schema import Action, TableSchema

# Columns of a row between the passes. All but the last two say what the row is: rows equal in
# them are one row. `split` indexes SPLITS; `fragment` and `row` say where it came from.
PACKED = pa.schema(
    [
        *(("user_id", pa.int64()), ("post_id", pa.int64()), ("shown_at_ms", pa.int64())),
        *(("did", pa.int64()), ("observed", pa.int64()), ("dwell_s", pa.float32())),
        *(("log_date", pa.date32()), ("surface", pa.int16()), ("position", pa.int16())),
        *(("request_id", pa.string()), ("event_id", pa.string()), (UNMAPPED, pa.uint64())),
        *(("split", pa.int8()), ("fragment", pa.int32()), ("row", pa.int64())),
    ]
)
CONTENT = PACKED.names[:-2]
KEYS = pa.schema(
    [
        *(("event_id", pa.string()), ("content", pa.uint64())),
        *(("fragment", pa.int32()), ("row", pa.int64())),
    ]
)
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class Scatter:
    """What every task of the first pass knows.

    Attributes:
        reader: reads the fragments.
        events: the table to check against.
        split: decides the split of each row.
        now_ms: nothing may be newer.
        refs: column -> ids it may hold.
        num_partitions: how many ways viewers are dealt out.
        scratch: folder for the files, seen by all tasks.
        max_rejected: refused rows reported by one task at most.
    """

    reader: Reader
    events: TableSchema
    split: SplitSettings
    now_ms: int
    refs: Mapping[str, check.Known]
    num_partitions: int
    scratch: str
    max_rejected: int


@dataclass(frozen=True)
class Scattered:
    """What became of one fragment: rows in it, its files by kind, and rows refused."""

    num_rows: int
    rows: list[str]
    keys: list[str]
    rejected: list[Rejected]


def scatter(number: int, fragment: Fragment, plan: Scatter) -> Scattered:
    """Check fragment `number` and deal its rows out; stops after `max_rejected` + 1 refusals.

    Raises:
        InputError: an unreadable file or an unknown column.
    """
    rows: list[str] = []
    keys: list[str] = []
    rejected: list[Rejected] = []
    num_rows = 0
    for at, batch in enumerate(plan.reader.read(fragment)):
        checked = check.rows(batch, fragment, plan.events, plan.now_ms, plan.refs)
        num_rows += len(checked.row) + len(checked.rejected)
        rejected += checked.rejected
        if len(rejected) > plan.max_rejected:
            break
        packed = pack(checked, number, plan.split, plan.reader.actions)
        stem = f"{plan.scratch}/{number:06d}-{at:06d}"
        part = partition_of(packed["user_id"].to_numpy(), plan.num_partitions)
        rows.append(deal(packed, part, plan.num_partitions, f"{stem}.rows"))
        if packed["event_id"].null_count < packed.num_rows:
            named, part = _keys(packed, plan.num_partitions)
            keys.append(deal(named, part, plan.num_partitions, f"{stem}.keys"))
    return Scattered(num_rows, rows, keys, rejected)


def pack(
    checked: check.Checked, fragment: int, split: SplitSettings, actions: Sequence[Action]
) -> pa.Table:
    """Checked events -> PACKED: action columns become masks, the split is settled."""
    table = checked.table
    num_rows = table.num_rows
    did, observed = masks(table, actions)
    columns = {
        **{name: table[name] for name in CONTENT if name in table.column_names},
        "did": did,
        "observed": observed,
        "split": assign(table, split),
        "fragment": np.full(num_rows, fragment, np.int32),
        "row": checked.row,
    }
    columns.setdefault(UNMAPPED, pa.nulls(num_rows, pa.uint64()))
    return pa.table([columns[name] for name in PACKED.names], schema=PACKED)


def masks(
    events: pa.Table, actions: Sequence[Action]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What was done and what was observed: masks over `actions`. int64 [n], [n]."""
    did = np.zeros(events.num_rows, np.int64)
    observed = np.zeros(events.num_rows, np.int64)
    for bit, action in enumerate(actions):
        name = "dwell_s" if action.continuous else action.name
        column = events[name]
        if column.null_count == len(column):
            continue
        valid = column.is_valid().to_numpy()
        observed |= valid.astype(np.int64) << bit
        if not action.continuous:
            did |= column.fill_null(False).to_numpy().astype(np.int64) << bit
    return did, observed


def partition_of(ids: NDArray[np.int64], num_partitions: int) -> NDArray[np.int64]:
    """Partition of each id, well mixed and the same on every machine. [n] -> int64 [n]."""
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return (mixed % np.uint64(num_partitions)).astype(np.int64)


def read_partition(paths: Sequence[str], partition: int, schema: pa.Schema) -> pa.Table:
    """The rows of one partition from all files, in the order of `paths`."""
    batches = []
    for path in paths:
        with pa.OSFile(path) as file:
            batches.append(pa.ipc.open_file(file).get_batch(partition))
    return pa.Table.from_batches(batches, schema)


def conflicts(paths: Sequence[str], partition: int) -> pl.DataFrame:
    """Rows whose event_id an earlier row of other content has.

    Returns:
        event_id, fragment, row, and the `first_fragment` and `first_row` of the earlier one.
    """
    keys = pl.DataFrame(read_partition(paths, partition, KEYS))
    shared = keys.filter(pl.col("event_id").is_duplicated()).sort("fragment", "row")
    first = [pl.col(c).first().over("event_id").name.prefix("first_") for c in KEYS.names[1:]]
    return (
        shared.with_columns(first)
        .filter(pl.col("content") != pl.col("first_content"))
        .select("event_id", "fragment", "row", "first_fragment", "first_row")
    )


def _keys(packed: pa.Table, num_partitions: int) -> tuple[pa.Table, NDArray[np.int64]]:
    frame = pl.DataFrame(packed)
    named = frame.select(
        "event_id", frame.select(CONTENT).hash_rows(0).alias("content"), "fragment", "row"
    ).drop_nulls("event_id")
    part = (named["event_id"].hash(1) % num_partitions).cast(pl.Int64)
    return named.to_arrow().cast(KEYS), part.to_numpy()


def deal(table: pa.Table, part: NDArray[np.int64], num_partitions: int, path: str) -> str:
    """Write `table` with the rows of partition p in record batch p, in their order.

    `part` names the partition of each row. int64 [n]. Returns `path`; `read_partition` reads it.
    """
    order = np.argsort(
        part.astype(np.uint16 if num_partitions < 1 << 16 else np.uint32), kind="stable"
    )
    dealt = table.take(order).combine_chunks()
    ends = np.cumsum(np.bincount(part, minlength=num_partitions))
    starts = ends - np.bincount(part, minlength=num_partitions)
    empty = pa.RecordBatch.from_pylist([], table.schema)
    with (
        pa.OSFile(path, "wb") as file,
        pa.ipc.new_file(file, table.schema, options=_COMPRESSED) as out,
    ):
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            batches = dealt.slice(start, end - start).to_batches()
            out.write_batch(batches[0] if batches else empty)
    return path

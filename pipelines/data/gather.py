"""Second pass: the whole log of some viewers, sorted, becomes their examples and profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.data.examples import BEFORE_LOG, PROFILES, ExampleSettings, Log, examples, profiles
from pipelines.data.rates import RateSettings, count
from pipelines.data.scatter import CONTENT, PACKED, partition_of, read_partition
from pipelines.data.split import leave_last_out
from pipelines.schema import EXAMPLES, SPLITS, Action


@dataclass(frozen=True)
class Gather:
    """What every task of the second pass knows.

    Attributes:
        files: what the first pass wrote, in the order of the log.
        refused: fragment and row of rows to leave out; their event_id was taken.
        authors: post_id, sorted, and author_id of each. int64 [n], [n].
        histories: table of schema.HISTORIES; may be empty.
        settings: how examples are cut.
        rates: how events are counted.
        actions: of the log, in mask order.
        num_partitions: as in the first pass.
        out: folder to write to.
        leave_last_out: the splits are settled here, viewer by viewer.
    """

    files: Sequence[str]
    refused: pl.DataFrame
    authors: tuple[NDArray[np.int64], NDArray[np.int64]]
    histories: pa.Table
    settings: ExampleSettings
    rates: RateSettings
    actions: Sequence[Action]
    num_partitions: int
    out: str
    leave_last_out: bool = False


@dataclass
class Gathered:
    """Counts of one partition.

    Attributes:
        num_duplicates: equal rows left out.
        num_examples, num_candidates: by split.
        ranges: split -> first and last shown_at_ms; no entry for an empty split.
        num_sequences, num_profiles: viewers with events up to the end of train, and of all.
        digests: file, relative to `out` -> sha256 of its bytes.
        counts: file of what `rates.count` gave, for the merge.
    """

    num_duplicates: int = 0
    num_examples: dict[str, int] = field(default_factory=dict)
    num_candidates: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    num_sequences: int = 0
    num_profiles: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    counts: str = ""


def gather(partition: int, plan: Gather) -> Gathered:
    """Build and write everything of one partition; the same rows give the same bytes."""
    rows = pl.DataFrame(read_partition(plan.files, partition, PACKED))
    if len(plan.refused):
        rows = rows.join(plan.refused, on=["fragment", "row"], how="anti", maintain_order="left")
    kept = unique(rows)
    done = Gathered(num_duplicates=len(rows) - len(kept))
    mine = partition_of(plan.histories["user_id"].to_numpy(), plan.num_partitions) == partition
    log = to_log(kept, plan.histories.filter(pa.array(mine)), plan.authors)
    del rows, kept
    if plan.leave_last_out:
        left_out = leave_last_out(log.user_id)
        log = replace(log, split=np.where(log.split == BEFORE_LOG, log.split, left_out))
    for at, split in enumerate(SPLITS):
        path = f"examples/split={split}/part-{partition:05d}.parquet"
        tables = examples(log, split, plan.settings)
        done.num_examples[split], done.digests[path] = write(tables, EXAMPLES, plan.out, path)
        shown = log.sort_ms[log.split == at]
        done.num_candidates[split] = len(shown)
        if len(shown):
            done.ranges[split] = (int(shown.min()), int(shown.max()))
    path = f"sequences/part-{partition:05d}.parquet"
    learned = log.take(log.split <= SPLITS.index("train"))
    done.num_sequences, done.digests[path] = write(
        profiles(learned, plan.settings), PROFILES, plan.out, path
    )
    path = f"profiles/part-{partition:05d}.parquet"
    tables = profiles(log, plan.settings)
    done.num_profiles, done.digests[path] = write(tables, PROFILES, plan.out, path)
    done.counts = f"{plan.out}/scratch/{partition:05d}.counts.parquet"
    count(log, plan.actions, plan.rates).write_parquet(done.counts)
    return done


def unique(rows: pl.DataFrame) -> pl.DataFrame:
    """PACKED rows without the later ones of equal content; the order stays."""
    return rows.unique(subset=CONTENT, keep="first", maintain_order=True)


def to_log(
    rows: pl.DataFrame, histories: pa.Table, authors: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Log:
    """Sort PACKED rows, and what came before the log, by viewer and time.

    Rows of one instant keep the order of the files.
    """
    events = rows.select(
        "user_id",
        pl.col("shown_at_ms").alias("sort_ms"),
        *("split", "post_id", "did", "observed"),
        pl.col("surface").fill_null(0),
        pl.col("dwell_s").fill_null(float("nan")),
    )
    before = (
        pl.DataFrame(histories)
        .explode("post_ids", "did")
        .drop_nulls("post_ids")
        .select(
            "user_id",
            (pl.col("as_of_ms") - 1).alias("sort_ms"),
            pl.lit(BEFORE_LOG, pl.Int8).alias("split"),
            pl.col("post_ids").alias("post_id"),
            "did",
            pl.lit(0, pl.Int64).alias("observed"),
            pl.lit(0, pl.Int16).alias("surface"),
            pl.lit(float("nan"), pl.Float32).alias("dwell_s"),
        )
    )
    both = pl.concat([before, events]) if len(before) else events
    both = both.sort("user_id", "sort_ms", maintain_order=True)
    columns = {name: both[name].to_numpy() for name in both.columns}
    return Log(author_id=_lookup(columns["post_id"], *authors), **columns)


def write(tables: Iterable[pa.Table], schema: pa.Schema, out: str, path: str) -> tuple[int, str]:
    """Write one Parquet file, a row group a table. Returns its rows and sha256."""
    num_rows = 0
    with pq.ParquetWriter(
        f"{out}/{path}", schema, compression="zstd", compression_level=1, use_dictionary=False
    ) as writer:
        for table in tables:
            writer.write_table(table)
            num_rows += table.num_rows
    with open(f"{out}/{path}", "rb") as file:
        return num_rows, hashlib.file_digest(file, "sha256").hexdigest()


def _lookup(
    ids: NDArray[np.int64], known: NDArray[np.int64], values: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Value of each id, 0 = unknown; `known` is sorted."""
    if not len(known):
        return np.zeros(len(ids), np.int64)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, values[at], 0)

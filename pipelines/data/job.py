"""Raw log -> checked tables, splits, examples and a manifest, in two passes over fragments.

The passes are plain functions given to a `Spread`, which runs them one after another here or
side by side on Ray; what is written does not depend on it. Nothing appears at `out` before all
of it is there.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl
import pyarrow as pa
from pydantic import Field, PositiveInt

from configs import Config
from pipelines.data import check
from pipelines.data.check import CheckSettings
from pipelines.data.examples import ExampleSettings
from pipelines.data.gather import Gather, Gathered, gather, write
from pipelines.data.manifest import action_entries, fingerprint, row_counts, split_entries
from pipelines.data.rates import RateSettings, merge
from pipelines.data.reader import Fragment, InputError, Reader, Rejected, make_reader
from pipelines.data.scatter import Scatter, Scattered, conflicts, scatter
from pipelines.data.split import SplitSettings, to_ms
from pipelines.schema import SPLITS, TABLES, TableSchema, events_table
from pipelines.whole import new_folder, save_json

T = TypeVar("T")
R = TypeVar("R")
SIDE_TABLES = ("users", "posts", "follows", "histories")  # users first: others refer to them
REFERRED = ("users", "posts")
_EXAMPLES = tuple(f"examples/split={split}" for split in SPLITS)
REJECTED = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        *((c, pa.string()) for c in ("column", "value", "reason")),
    ]
)


class Spread(Protocol):
    """Runs a function over items in any order."""

    def __call__(
        self, what: str, function: Callable[[T], R], items: Sequence[T]
    ) -> Iterator[tuple[int, R]]:
        """Yield the place of each item and its result, as they come; `what` names the work."""


class DataConfig(Config):
    """One run of the data job."""

    name: str = Field(pattern=r"^[\w.-]+$")  # of the data set
    # Folder to write; null = artifacts/data/<name>. All nodes of a cluster must share it.
    out: str | None = None
    reader: dict[str, Any]  # name: a file of readers/, and that reader's settings
    split: SplitSettings
    examples: ExampleSettings = ExampleSettings()
    rates: RateSettings = RateSettings()
    check: CheckSettings = CheckSettings()
    partition_rows: PositiveInt = 131_072  # rows of the log that one task holds, about

    @property
    def folder(self) -> Path:
        """Where the tables go."""
        return Path(self.out or f"artifacts/data/{self.name}").absolute()


def one_by_one(
    what: str, function: Callable[[T], R], items: Sequence[T]
) -> Iterator[tuple[int, R]]:
    """The `Spread` that stays in this process."""
    return ((at, function(item)) for at, item in enumerate(items))


def prepare(config: DataConfig, spread: Spread = one_by_one) -> dict[str, Any]:
    """Run the job and return the manifest that it wrote.

    Raises:
        ConfigError: no such reader, or wrong settings for it.
        InputError: input that breaks the contract in more rows than allowed, an unreadable or
            missing file, or an `out` that holds something else. `out` is then as it was.
    """
    reader = make_reader(config.reader)
    final = config.folder
    if final.exists() and any(final.iterdir()) and not (final / "manifest.json").exists():
        raise InputError(f"{final}: holds files that this job did not write; give another `out`")
    with new_folder(final) as out:
        for folder in ("scratch", "profiles", "sequences", "rates", *_EXAMPLES):
            (out / folder).mkdir(parents=True)
        manifest = _Run(config, reader, out, spread).run()
        shutil.rmtree(out / "scratch")
        save_json(out / "manifest.json", manifest)
    return manifest


class _Run:
    """State of one run: what was refused so far, and counts for the manifest."""

    def __init__(self, config: DataConfig, reader: Reader, out: Path, spread: Spread) -> None:
        self.config, self.reader, self.out, self.spread = config, reader, out, spread
        now = config.check.now
        self.now_ms = to_ms(now) if now else int(time.time() * 1000)
        self.refs: dict[str, check.Known] = {}
        self.rejected: list[Rejected] = []
        self.digests: dict[str, str] = {}
        self.rows: dict[str, dict[str, int]] = {}

    def run(self) -> dict[str, Any]:
        fragments = self.reader.fragments()
        tables = {name: self.side_table(name, fragments) for name in SIDE_TABLES}
        events = [f for f in fragments if f.table == "events"]
        num_rows = sum(f.num_rows for f in events)
        self.num_partitions = max(1, -(-num_rows // self.config.partition_rows))
        scattered = self.scatter(events, tables)
        refused = self.conflicts(events, scattered)
        gathered = self.gather(scattered, refused, tables)
        self.count_events(scattered, len(refused), gathered)
        self.write_rejected()
        return {
            "name": self.config.name,
            "reader": self.config.reader["name"],
            "fingerprint": fingerprint(self.digests),
            **action_entries(self.reader),
            "rows": self.rows,
            "splits": split_entries(gathered, in_time=not self.config.split.leave_last_out),
            "sequences": sum(result.num_sequences for result in gathered),
            "profiles": sum(result.num_profiles for result in gathered),
            "partitions": self.num_partitions,
            "config": self.config.model_dump(mode="json"),
        }

    def side_table(self, name: str, fragments: Sequence[Fragment]) -> pa.Table:
        """Read, check and write one of SIDE_TABLES; one that the reader lacks is written empty."""
        table = TABLES[name]
        mine = [f for f in fragments if f.table == name]
        known = {column: self.refs[of] for column, of in table.refs if of in self.refs}
        pieces = [
            (check.rows(batch, fragment, table, self.now_ms, known), fragment)
            for fragment in mine
            for batch in self.reader.read(fragment)
        ]
        checked, duplicates = check.unique(pieces, table)
        self.refuse(checked.rejected)
        kept, rejected = checked.table.num_rows, len(checked.rejected)
        if mine:
            self.rows[name] = row_counts(kept + duplicates + rejected, duplicates, rejected, kept)
            if name in REFERRED:
                self.refs[name] = check.Known(name, checked.table[table.key[0]].to_numpy())
        if name != "histories":
            path = f"{name}.parquet"
            _, self.digests[path] = write([checked.table], table.arrow, str(self.out), path)
        return checked.table

    def scatter(self, events: list[Fragment], tables: dict[str, pa.Table]) -> list[Scattered]:
        table = _events_table(self.reader, self.config.split)
        plan = Scatter(
            reader=self.reader,
            events=table,
            split=self.config.split,
            now_ms=self.now_ms,
            refs={column: self.refs[of] for column, of in table.refs if of in self.refs},
            num_partitions=self.num_partitions,
            scratch=str(self.out / "scratch"),
            max_rejected=self.config.check.max_bad_rows,
        )
        done: dict[int, Scattered] = {}
        task = partial(_scatter, plan=plan)
        for at, result in self.spread("reading", task, list(enumerate(events))):
            self.refuse(result.rejected)
            done[at] = result
        return [done[at] for at in sorted(done)]

    def conflicts(self, events: list[Fragment], scattered: list[Scattered]) -> pl.DataFrame:
        """Rows of the log whose event_id names another row. fragment, row."""
        refused = [pl.DataFrame(schema={"fragment": pl.Int32, "row": pl.Int64})]
        files = [path for result in scattered for path in result.keys]
        partitions = range(self.num_partitions if files else 0)
        for _, found in self.spread("checking keys", partial(conflicts, files), partitions):
            for event_id, fragment, row, other, other_row in found.iter_rows():
                reason = f"duplicate key: {events[other].path} row {other_row} differs"
                at = ("events", events[fragment].path, row, "event_id", repr(event_id), reason)
                self.refuse([Rejected(*at)])
            refused.append(found.select("fragment", "row"))
        return pl.concat(refused)

    def gather(
        self, scattered: list[Scattered], refused: pl.DataFrame, tables: dict[str, pa.Table]
    ) -> list[Gathered]:
        posts = tables["posts"]
        plan = Gather(
            files=[path for result in scattered for path in result.rows],
            refused=refused,
            authors=(posts["post_id"].to_numpy(), posts["author_id"].fill_null(0).to_numpy()),
            histories=tables["histories"],
            settings=self.config.examples,
            rates=self.config.rates,
            actions=self.reader.actions,
            num_partitions=self.num_partitions,
            out=str(self.out),
            leave_last_out=self.config.split.leave_last_out,
        )
        tasks = self.spread("building", partial(gather, plan=plan), range(self.num_partitions))
        gathered = [result for _, result in tasks]
        for result in gathered:
            self.digests |= result.digests
        counts = [result.counts for result in gathered]
        for name, table in merge(counts, posts, self.reader.actions):
            path = f"rates/{name}.parquet"
            _, self.digests[path] = write([table], table.schema, str(self.out), path)
        return gathered

    def refuse(self, rejected: Sequence[Rejected]) -> None:
        """Note refused rows.

        Raises:
            InputError: there are more than `max_bad_rows`; the earliest is shown.
        """
        self.rejected += rejected
        limit = self.config.check.max_bad_rows
        if len(self.rejected) > limit:
            raise InputError(
                f"{min(self.rejected, key=_place)}\n({len(self.rejected)} bad rows so far; "
                f"check.max_bad_rows is {limit})"
            )

    def count_events(
        self, scattered: list[Scattered], num_conflicts: int, gathered: list[Gathered]
    ) -> None:
        read = sum(result.num_rows for result in scattered)
        rejected = sum(len(result.rejected) for result in scattered) + num_conflicts
        duplicates = sum(result.num_duplicates for result in gathered)
        kept = sum(sum(result.num_candidates.values()) for result in gathered)
        if kept + duplicates + rejected != read:
            raise RuntimeError(
                f"{read} rows read, {kept} + {duplicates} + {rejected} accounted for"
            )
        if not kept:
            raise InputError(f"no event is left of the {read} that were read")
        self.rows["events"] = row_counts(read, duplicates, rejected, kept)

    def write_rejected(self) -> None:
        (self.out / "rejected").mkdir()
        for name in sorted({bad.table for bad in self.rejected}):
            bad = sorted((b for b in self.rejected if b.table == name), key=_place)
            table = pa.Table.from_pylist([dataclasses.asdict(b) for b in bad], REJECTED)
            write([table], REJECTED, str(self.out), f"rejected/{name}.parquet")


def _scatter(item: tuple[int, Fragment], plan: Scatter) -> Scattered:
    return scatter(*item, plan)


def _events_table(reader: Reader, split: SplitSettings) -> TableSchema:
    """The events of this reader; the column that decides the split may not be null."""
    table = events_table(reader.actions)
    columns = (
        dataclasses.replace(c, null=False) if c.name == split.column else c for c in table.columns
    )
    return dataclasses.replace(table, columns=tuple(columns))


def _place(bad: Rejected) -> tuple[str, int]:
    return bad.file, bad.row

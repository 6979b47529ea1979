"""A log small enough to read, written as a company would keep it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.job import DataConfig
from pipelines.schema import EVENTS, FOLLOWS, POSTS, USERS

HOUR_MS = 3_600_000
NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00Z
NOW = dt.datetime(2026, 1, 3, tzinfo=dt.UTC)
TYPES = {f.name: f.type for t in (EVENTS, POSTS, USERS, FOLLOWS) for f in t.arrow}


def event(user_id: int, post_id: int, hour: float, **more: Any) -> dict[str, Any]:
    """One impression `hour` hours after NOON_MS."""
    shown = {"user_id": user_id, "post_id": post_id, "shown_at_ms": NOON_MS + int(hour * HOUR_MS)}
    return {**shown, "click": post_id % 2 == 0, "dwell_s": 1.5, **more}


# Two viewers, two visits each; hours 0-9 train, 10-19 validate, 20 on test.
EVENTS_ROWS = [
    *(event(1, 11, 0), event(2, 12, 0.1), event(1, 12, 0.2), event(1, 13, 5)),
    *(event(2, 11, 10), event(1, 14, 11), event(1, 15, 11.1)),
    *(event(2, 15, 20), event(1, 11, 21), event(2, 16, 20.4)),
]
POSTS_ROWS = [{"post_id": p, "author_id": 100 + p} for p in range(11, 17)]
USERS_ROWS = [{"user_id": 1}, {"user_id": 2}]


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], **types: pa.DataType) -> Path:
    """Write rows with the contract's types, or those given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    declared = {name: types.get(name, TYPES.get(name, pa.int64())) for name in names}
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(declared.items()))), path)
    return path


def write_lines(path: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    """Write rows as JSON lines; a string is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def config(folder: Path, **more: Any) -> DataConfig:
    """Settings of a run over `folder/events`, and posts and users where they are there."""
    tables = {
        name: str(next(folder.glob(f"{name}*")))
        for name in ("events", "posts", "users", "follows")
        if list(folder.glob(f"{name}*"))
    }
    hour = dt.timedelta(hours=1)
    noon = dt.datetime.fromtimestamp(NOON_MS / 1000, dt.UTC)
    reader = {"name": "logs", **tables, **more.pop("reader", {})}
    check = {"now": NOW, **more.pop("check", {})}
    split = {"validate_from": noon + 10 * hour, "test_from": noon + 20 * hour}
    values = {"name": "small", "out": str(folder / "out"), "split": split, **more}
    return DataConfig.model_validate({**values, "reader": reader, "check": check})


def write_small(folder: Path) -> Path:
    """The whole small log as Parquet."""
    write_parquet(folder / "events.parquet", EVENTS_ROWS)
    write_parquet(folder / "posts.parquet", POSTS_ROWS)
    write_parquet(folder / "users.parquet", USERS_ROWS)
    return folder


def read(out: Path, split: str, *names: str) -> pl.DataFrame:
    """Examples of one split, the columns named or all."""
    folder = out / "examples" / f"split={split}"
    return pl.read_parquet(folder / "*.parquet", columns=names or None, hive_partitioning=False)


def tables_of(out: Path) -> dict[str, bytes]:
    """Every table of an output and its bytes."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}

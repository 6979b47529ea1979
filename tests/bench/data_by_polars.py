"""A generated log, and the data job as one would write it with Polars in one process."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.check import Checked
from pipelines.data.examples import PROFILES, ExampleSettings, examples, profiles
from pipelines.data.gather import to_log, unique, write
from pipelines.data.scatter import pack
from pipelines.data.split import SplitSettings
from pipelines.schema import ACTIONS, DAY_MS, EVENTS, EXAMPLES, HISTORIES, POSTS, SPLITS

FILE_ROWS = 1_000_000
NUM_POSTS = 100_000
START_MS = 1_700_000_000_000
RATES = {"click": 0.4, "favorite": 0.02, "reply": 0.003, "share": 0.002, "not_interested": 0.001}


def split_settings() -> SplitSettings:
    """Twelve days to train on, one to validate, one to test."""

    def instant(day: int) -> dt.datetime:
        return dt.datetime.fromtimestamp((START_MS + day * DAY_MS) / 1000, dt.UTC)

    return SplitSettings(validate_from=instant(12), test_from=instant(13))


def generate(folder: Path, num_rows: int) -> None:
    """Write a log of `num_rows` in the contract: visits of 8 posts on average over 14 days.

    One row in 100 is there twice. The same `num_rows` give the same files.
    """
    rng = np.random.default_rng(num_rows)
    (folder / "events").mkdir(parents=True)
    num_visits = num_rows // 8
    user = 1 + (rng.pareto(1.5, num_visits) * num_rows / 100).astype(np.int64) % (num_rows // 20)
    begin = np.sort(START_MS + rng.integers(0, 14 * DAY_MS, num_visits))
    for at, low in enumerate(range(0, num_rows, FILE_ROWS)):
        n = min(FILE_ROWS, num_rows - low)
        visit = (low + np.arange(n)) // 8
        place = (low + np.arange(n)) % 8
        post = 1 + (rng.pareto(1.2, n) * 500).astype(np.int64) % NUM_POSTS
        frame = pl.DataFrame(
            {
                "event_id": pl.Series(low + np.arange(n)).cast(pl.String),
                "user_id": user[np.minimum(visit, num_visits - 1)],
                "post_id": post,
                "shown_at_ms": begin[np.minimum(visit, num_visits - 1)] + 9_000 * place,
                "surface": np.full(n, 1, np.int16),
                "position": place.astype(np.int16),
                "dwell_s": rng.exponential(8, n).astype(np.float32),
                **{name: rng.random(n) < rate for name, rate in RATES.items()},
            }
        )
        twice = frame[:-1].gather_every(100)
        frame = pl.concat([frame[: n - len(twice)], twice])
        pq.write_table(
            frame.to_arrow().cast(_plain(frame)),
            folder / f"events/{at:04d}.parquet",
            row_group_size=FILE_ROWS // 2,
        )
    posts = pl.DataFrame({"post_id": np.arange(1, NUM_POSTS + 1)})
    posts = posts.with_columns(author_id=pl.col("post_id") % 5_000 + 1)
    posts.write_parquet(folder / "posts.parquet")


def with_polars(folder: Path, out: Path) -> str:
    """The same job in one process, the log held as one frame. Returns a digest of the tables."""
    events = pl.read_parquet(folder / "events" / "*.parquet")
    posts = pl.read_parquet(folder / "posts.parquet").sort("post_id")
    _check(events, posts)
    table = _whole(events)
    del events
    rows = np.arange(len(table))
    packed = pl.DataFrame(pack(Checked(table, rows, []), 0, split_settings(), ACTIONS))
    del table
    kept = unique(packed)
    del packed
    if kept["event_id"].is_duplicated().any():
        raise ValueError("an event_id names two rows")
    authors = posts["post_id"].to_numpy(), posts["author_id"].to_numpy()
    log = to_log(kept, HISTORIES.arrow.empty_table(), authors)
    del kept
    settings, digests = ExampleSettings(), []
    for split in SPLITS:
        (out / f"examples/split={split}").mkdir(parents=True)
        path = f"examples/split={split}/part-00000.parquet"
        digests.append(write(examples(log, split, settings), EXAMPLES, str(out), path)[1])
    digests.append(write(profiles(log, settings), PROFILES, str(out), "profiles.parquet")[1])
    full = posts.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in pl.Schema(POSTS.arrow).items()
        if name not in posts.columns
    )
    columns = full.select(POSTS.arrow.names).to_arrow().cast(POSTS.arrow)
    digests.append(write([columns], POSTS.arrow, str(out), "posts.parquet")[1])
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _check(events: pl.DataFrame, posts: pl.DataFrame) -> None:
    """The rules of the contract as Polars expressions."""
    ids, times = pl.col("user_id", "post_id"), pl.col("shown_at_ms")
    now_ms = int(time.time() * 1000)
    bad = events.select(
        (pl.col("user_id").is_null() | pl.col("post_id").is_null() | times.is_null()).any(),
        ids.min().name.suffix("_min") < 1,
        late=times.max() > now_ms,
        early=times.min() < 0,
        surface=~pl.col("surface").is_between(0, 15).all(),
        position=pl.col("position").min() < 0,
        dwell=~(pl.col("dwell_s").is_finite().all() & (pl.col("dwell_s").min() >= 0)),
    )
    if any(bad.row(0)) or not events["post_id"].is_in(posts["post_id"].implode()).all():
        raise ValueError(f"bad rows: {bad}")


def _whole(events: pl.DataFrame) -> pa.Table:
    """All columns of the contract; those not given are null."""
    given = events.to_arrow()
    arrays = [
        given[field.name].cast(field.type)
        if field.name in given.column_names
        else pa.nulls(len(given), field.type)
        for field in EVENTS.arrow
    ]
    return pa.table(arrays, schema=EVENTS.arrow)


def _plain(frame: pl.DataFrame) -> pa.Schema:
    fields = {f.name: f.type for f in EVENTS.arrow}
    return pa.schema([(name, fields[name]) for name in frame.columns])

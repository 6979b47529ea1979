"""What the running counts promise: strictly past, the same however the work was dealt out."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.data.job import prepare
from pipelines.data.rates import RATES
from pipelines.data.reader import InputError

from .small_log import HOUR_MS, NOON_MS, config, event, tables_of, write_parquet, write_small

AUTHORS = {11: 101, 12: 101, 13: 102, 14: None, 15: 102}
TOPICS = {11: [7], 12: [7, 8], 13: [8, 8], 14: None, 15: []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """400 events of 9 viewers on 5 posts in 30 hours, many of them at full hours."""
    rng = np.random.default_rng(0)
    hours = np.where(rng.random(400) < 0.2, rng.integers(0, 30, 400), rng.uniform(0, 30, 400))
    rows = [
        event(
            int(u), int(p), h, click=bool(c), favorite=None if c else bool(u % 2), event_id=str(i)
        )
        for i, (u, p, h, c) in enumerate(
            zip(
                rng.integers(1, 10, 400),
                rng.integers(11, 16, 400),
                hours,
                rng.random(400) < 0.4,
                strict=True,
            )
        )
    ]
    posts = [{"post_id": p, "author_id": AUTHORS[p], "topic_ids": TOPICS[p]} for p in AUTHORS]
    write_parquet(tmp_path / "events.parquet", rows)
    write_parquet(tmp_path / "posts.parquet", posts)
    write_parquet(tmp_path / "users.parquet", [{"user_id": u} for u in range(1, 10)])
    return tmp_path


def _belongs(name: str, post_id: int) -> set[int]:
    """Ids of a table of RATES to which a showing of the post counts."""
    owners = {
        "all": [1],
        "post": [post_id],
        "author": [AUTHORS[post_id]],
        "topic": TOPICS[post_id] or [],
    }
    return {owner for owner in owners[name] if owner}


def _lookup(rates: pl.DataFrame, of: int, at_ms: int) -> tuple[int, ...]:
    """Counts known of an id at a moment: those of the last row not after it."""
    known = rates.filter((pl.col("id") == of) & (pl.col("from_ms") <= at_ms)).drop("id", "from_ms")
    return known.row(-1) if len(known) else (0,) * known.width


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("every_s", [600, 3600])
def test_counts_are_those_of_the_buckets_before(folder, name, every_s):
    """At any moment the counts are those of the events in buckets that had ended by then."""
    prepare(config(folder, rates={"every_s": every_s}))
    rates = pl.read_parquet(folder / f"out/rates/{name}.parquet")
    assert rates.columns == ["id", "from_ms", "shown", "favorite", "click"]
    assert rates.dtypes == [pl.Int64, pl.Int64, pl.Int32, pl.Int32, pl.Int32]
    log = pl.read_parquet(folder / "events.parquet").rows(named=True)
    rng = np.random.default_rng(1)
    moments = [row["shown_at_ms"] for row in log[:100]]  # what it would be asked for
    moments += (NOON_MS + rng.integers(-1, 33 * HOUR_MS, 100)).tolist()
    ids = sorted(set.union(*(_belongs(name, post) for post in AUTHORS)))
    for at_ms in moments:
        of = int(rng.choice(ids))
        past = [
            row
            for row in log
            if of in _belongs(name, row["post_id"])
            and (row["shown_at_ms"] // (every_s * 1000) + 1) * every_s * 1000 <= at_ms
        ]
        assert _lookup(rates, of, at_ms) == (
            len(past),
            sum(row["favorite"] is True for row in past),
            sum(row["click"] for row in past),
        )


def test_no_event_is_counted_in_its_own_bucket(folder):
    """A moment's counts stay the same when everything from its bucket on is taken away."""
    prepare(config(folder))
    whole = {name: pl.read_parquet(folder / f"out/rates/{name}.parquet") for name in RATES}
    log = pl.read_parquet(folder / "events.parquet")
    cut_ms = NOON_MS + 25 * HOUR_MS
    log.filter(pl.col("shown_at_ms") < cut_ms).write_parquet(folder / "events.parquet")
    prepare(config(folder))
    for name, rates in whole.items():
        past = pl.read_parquet(folder / f"out/rates/{name}.parquet")
        assert past.equals(rates.filter(pl.col("from_ms") <= cut_ms))
        assert len(past) < len(rates)


def test_rows_are_sorted_and_say_something(folder):
    """Rows stand by id and time, every one with more showings than the one before."""
    prepare(config(folder))
    for name in RATES:
        rates = pl.read_parquet(folder / f"out/rates/{name}.parquet")
        assert rates.equals(rates.sort("id", "from_ms"))
        assert (rates.select(pl.col("shown").diff().over("id")).to_series().drop_nulls() > 0).all()
        assert (rates["from_ms"] % HOUR_MS == 0).all()


def test_partitions_do_not_show(folder):
    """One partition and many write the same counts, to the byte."""
    written = []
    for rows in (1000, 50):
        manifest = prepare(config(folder, partition_rows=rows))
        tables = tables_of(folder / "out")
        written.append({p: data for p, data in tables.items() if p.startswith("rates/")})
    assert manifest["partitions"] == 8
    assert len(written[0]) == len(RATES)
    assert written[0] == written[1]


def test_what_came_before_the_log_does_not_count(kuairand):
    """Only events of the log are counted: their number is the last row of `all`."""
    manifest = json.loads((kuairand / "manifest.json").read_text())
    last = pl.read_parquet(kuairand / "rates/all.parquet").row(-1, named=True)
    assert last["shown"] == manifest["rows"]["events"]["kept"]
    log = pl.read_parquet("pipelines/data/bundled/kuairand_pure/log_standard*.parquet").unique()
    assert last["favorite"] == log["is_like"].sum()
    assert last["from_ms"] == (log["time_ms"].max() // HOUR_MS + 1) * HOUR_MS


def test_a_log_without_posts(tmp_path):
    """Where no authors and topics are known their tables are there, and empty."""
    (write_small(tmp_path) / "posts.parquet").unlink()
    prepare(config(tmp_path))
    sizes = {name: len(pl.read_parquet(tmp_path / f"out/rates/{name}.parquet")) for name in RATES}
    assert sizes["author"] == sizes["topic"] == 0
    assert sizes["all"] > 0
    assert sizes["post"] > 0


def test_an_overflow_is_refused(folder, monkeypatch):
    """More showings than the column holds end the run, and name the table."""
    monkeypatch.setattr("pipelines.data.rates._MOST", 300)
    with pytest.raises(InputError, match="rates/all: more than 300 showings"):
        prepare(config(folder))


def test_a_bucket_has_a_length(tmp_path):
    """A bucket of no time is refused with the settings."""
    with pytest.raises(ValueError, match="every_s"):
        config(write_small(tmp_path), rates={"every_s": 0})
    assert config(tmp_path).rates.every_s == dt.timedelta(hours=1).total_seconds()

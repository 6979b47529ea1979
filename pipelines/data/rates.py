"""What had come of posts by when: running counts of showings and acts, a bucket of time a row.

An event counts from the end of the bucket it fell in, never earlier: whoever looks up a moment
gets nothing of that moment's own bucket, so the counts may stand beside what they help to
predict. A server that holds the newest rows knows what training knew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import PositiveInt

from configs import Config
from pipelines.data.examples import BEFORE_LOG, Log
from pipelines.data.reader import InputError
from pipelines.schema import Action

RATES = ("all", "post", "author", "topic")  # tables: whose showings a row counts
_KEYS = ("id", "from_ms")
_MOST = 2**31 - 1  # of an int32


class RateSettings(Config):
    """How finely the counts follow the clock."""

    every_s: PositiveInt = 3600  # length of a bucket; shorter is fresher, and more rows


def count(log: Log, actions: Sequence[Action], settings: RateSettings) -> pl.DataFrame:
    """Showings and acts of each post in each bucket of one partition; not before the log.

    Returns:
        id (the post), from_ms (end of the bucket), shown and one column for each discrete
        action that these events observed. int64, in no order.
    """
    inside = log.split != BEFORE_LOG
    every_ms = settings.every_s * 1000
    events = pl.DataFrame(
        {"id": log.post_id[inside], "at_ms": log.sort_ms[inside], "did": log.did[inside]}
    )
    observed = int(np.bitwise_or.reduce(log.observed[inside]))
    acts = [
        ((pl.col("did") & (1 << bit)) != 0).sum().cast(pl.Int64).alias(action.name)
        for bit, action in enumerate(actions)
        if observed >> bit & 1 and not action.continuous
    ]
    from_ms = (pl.col("at_ms") // every_ms + 1) * every_ms
    return events.group_by("id", from_ms.alias("from_ms")).agg(
        pl.len().cast(pl.Int64).alias("shown"), *acts
    )


def merge(
    files: Sequence[str | Path], posts: pa.Table, actions: Sequence[Action]
) -> Iterator[tuple[str, pa.Table]]:
    """The partitions' counts as one running count for each id of each of RATES.

    All in memory is a row for each post and bucket with a showing, times the post's topics.

    Args:
        files: Parquet files of what `count` gave.
        posts: table of schema.POSTS; without an author or topics a post counts for none.
        actions: of the log.

    Yields:
        Name and table: id (1 in "all"), from_ms, shown and the observed discrete actions in the
        order of `actions`; counts of events strictly before from_ms, int32. Sorted by id, then
        from_ms; one row for each bucket in which something was shown.

    Raises:
        InputError: more showings than an int32 holds.
    """
    parts = pl.concat([pl.read_parquet(file) for file in files], how="diagonal").fill_null(0)
    names = ["shown", *(a.name for a in actions if a.name in parts.columns)]
    each = _sums(parts, names)
    known = pl.DataFrame(posts.select(["post_id", "author_id", "topic_ids"]))
    authors = known.select(id="post_id", of="author_id").drop_nulls()
    topics = known.select(id="post_id", of=pl.col("topic_ids").list.unique())
    keys = {
        "all": each.with_columns(id=pl.lit(1, pl.Int64)),
        "post": each,
        "author": _of(each, authors),
        "topic": _of(each, topics.explode("of").drop_nulls()),
    }
    for name in RATES:
        counts = _sums(keys[name], names).sort(_KEYS)
        running = counts.with_columns(pl.col(names).cum_sum().over("id"))
        if running["shown"].to_numpy().max(initial=0) > _MOST:
            raise InputError(f"rates/{name}: more than {_MOST} showings of one id")
        yield name, running.with_columns(pl.col(names).cast(pl.Int32)).to_arrow()


def _sums(counts: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    return counts.group_by(_KEYS).agg(pl.col(names).sum())


def _of(each: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """Counts of posts as those of what they belong to."""
    return each.join(owners, on="id").drop("id").rename({"of": "id"})

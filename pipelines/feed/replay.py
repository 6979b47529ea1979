"""Answers logged requests again with two feeds, offline, and says what would change.

`python -m pipelines.feed.replay OLD.yaml NEW.yaml --log artifacts/events --bundle artifacts/bundle`
makes every page of the log twice, with the models of the bundle in this process and with what is
known now, and prints the mean of each measure for both feeds, the difference, and its 95 %
interval over viewers. Nothing is recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track
from rich.table import Table

import configs
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import FeedResult
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery
from pipelines.intervals import bootstrap_interval
from pipelines.schema import ACTIONS

SERVICES = "serve.offline:services"  # by name: the feed may not import what serves it
SMALL = 1_000  # followers below which an author is a small one
_NEGATIVE = [at for at, action in enumerate(ACTIONS) if action.weight < 0]


@dataclass(frozen=True)
class Row:
    """One measure of all pages: means of both feeds and of what the new one changes.

    `num_pages` counts those of which both feeds could tell.
    """

    old: float
    new: float
    difference: float
    interval: tuple[float, float]
    num_pages: int


def of_feed(feed: str = "timeline") -> pl.Expr:
    """Which rows of a log are of that feed's pages, by their request_id; null where it is."""
    name = pl.col("request_id")
    return ~name.str.contains("/") if feed == "timeline" else name.str.starts_with(f"{feed}/")


def requests(log: str | Path, num: int | None = None, feed: str = "timeline") -> list[FeedQuery]:
    """The requests behind the pages of an event log, in their order.

    Args:
        log: a folder of Parquet files, or one, with columns of schema.EVENTS.
        num: how many, spread evenly over the log; None = all.
        feed: of which feed; what was searched for, or whose replies were asked, no log says.

    Raises:
        ValueError: no page of that feed in the log.
    """
    where = Path(log) / "*.parquet" if Path(log).is_dir() else Path(log)
    pages = (
        pl.scan_parquet(where)
        .filter(pl.col("request_id").is_not_null() & of_feed(feed))
        .group_by("request_id")
        .agg(
            pl.col("user_id").first(),
            pl.col("shown_at_ms").min(),
            pl.col("surface").first().fill_null(0),
            pl.len().alias("limit"),
        )
        .sort("shown_at_ms", "request_id")
        .collect()
    )
    if not len(pages):
        raise ValueError(f"{log}: no page of the feed {feed} in it; rows need a request_id")
    if num is not None and num < len(pages):
        pages = pages[np.linspace(0, len(pages) - 1, num).round().astype(int).tolist()]
    return [
        FeedQuery(
            user_id=page["user_id"],
            limit=page["limit"],
            now_ms=page["shown_at_ms"],
            request_id=page["request_id"],
            surface=page["surface"],
            feed=feed,
        )
        for page in pages.to_dicts()
    ]


async def answer(
    feed: Pipeline, queries: Sequence[FeedQuery], services: Services
) -> list[FeedResult]:
    """Make the page of each request, one after another."""
    return [await feed.run(query, services) for query in track(queries, description="Replaying")]


def measures(result: FeedResult) -> dict[str, float]:
    """What one page is like; NaN where the page's columns cannot tell."""
    page, nan = result.page, float("nan")
    num = len(page)
    measured = dict.fromkeys(
        ("authors", "topics", "small_authors", "in_network", "negative_feedback"), nan
    )
    if num:
        if "author_id" in page:
            known = page["author_id"][page["author_id"] > 0]
            measured["authors"] = len(np.unique(known)) / len(known) if len(known) else nan
        if "topic_ids" in page:
            # No column if no post has any.
            measured["topics"] = topic_entropy(page["topic_ids"][:, :1])
        if "num_followers" in page:
            followers = page["num_followers"][page["num_followers"] >= 0]
            measured["small_authors"] = float((followers < SMALL).mean()) if len(followers) else nan
        if "in_network" in page:
            measured["in_network"] = float(page["in_network"].mean())
        if "p_action" in page:
            measured["negative_feedback"] = float(page["p_action"][:, _NEGATIVE].sum(axis=1).mean())
    return {
        "posts": float(num),
        "share_of_full_pages": float(num == result.query.limit),
        "degraded": float(bool(result.degraded)),
        **measured,
    }


def compare(old: Sequence[FeedResult], new: Sequence[FeedResult]) -> dict[str, Row]:
    """Measures of both feeds over the same requests.

    Returns:
        measure -> row. "overlap" is the share of posts that both pages have, of those that
        either has, and "same_first" whether they begin alike: for both `new` alone is filled.
    """
    viewer = np.array([result.query.user_id for result in old])
    pairs = [(measures(a), measures(b)) for a, b in zip(old, new, strict=True)]
    rows = {
        name: _row(viewer, [a[name] for a, _ in pairs], [b[name] for _, b in pairs])
        for name in pairs[0][0]
    }
    same = [_same(a, b) for a, b in zip(old, new, strict=True)]
    for name in ("overlap", "same_first"):
        values = np.array([each[name] for each in same])
        rows[name] = Row(float("nan"), float(values.mean()), *_mean(viewer, values), len(values))
    return rows


def _same(a: FeedResult, b: FeedResult) -> dict[str, float]:
    one, other = a.page.post_id, b.page.post_id
    either = len(np.union1d(one, other))
    return {
        "overlap": len(np.intersect1d(one, other)) / either if either else 1.0,
        "same_first": float(one[:1].tolist() == other[:1].tolist()),
    }


def _row(viewer: np.ndarray, old: Sequence[float], new: Sequence[float]) -> Row:
    told = ~(np.isnan(old) | np.isnan(new))
    if not told.any():
        nan = float("nan")
        return Row(nan, nan, nan, (nan, nan), 0)
    one, other = np.asarray(old)[told], np.asarray(new)[told]
    return Row(
        float(one.mean()), float(other.mean()), *_mean(viewer[told], other - one), int(told.sum())
    )


def _mean(viewer: np.ndarray, values: np.ndarray) -> tuple[float, tuple[float, float]]:
    interval = bootstrap_interval(viewer, lambda weight: np.average(values, weights=weight))
    return float(values.mean()), interval


def topic_entropy(topics: np.ndarray) -> float:
    """Of the posts' first topics, in bits: 0 = all alike. NaN where no topic is known."""
    count = np.unique(topics[topics > 0], return_counts=True)[1]
    if not len(count):
        return float("nan")
    share = count / count.sum()
    return float(-(share * np.log2(share)).sum())


def show(rows: Mapping[str, Row], num_requests: int, console: Console) -> None:
    """Print one line a measure."""
    table = Table(title=f"{num_requests} requests, answered twice", title_justify="left", box=None)
    for heading in ("mean over pages", "old", "new", "difference", "95 % interval", "pages"):
        table.add_column(heading, justify="left" if heading.startswith("mean") else "right")
    for name, row in rows.items():
        both = not np.isnan(row.old)
        low, high = row.interval
        table.add_row(
            name.replace("_", " "),
            f"{row.old:.4f}" if both else "",
            f"{row.new:.4f}" if row.num_pages else "unknown",
            f"{row.difference:+.4f}" if both else "",
            f"{low:+.4f} to {high:+.4f}"
            if both
            else f"{low:.4f} to {high:.4f}" * bool(row.num_pages),
            str(row.num_pages),
        )
    console.print(table)


def services_of(name: str, bundle: str) -> Any:
    """What answers the feeds: the function `name`, as module:function, called with the bundle.

    Raises:
        ValueError: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(bundle)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--services {name}: {error}; expected module:function") from error


def main() -> int:
    """Compare two feeds from the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.feed.replay", description=__doc__)
    parser.add_argument("old", help="feed.yaml of the one")
    parser.add_argument("new", help="feed.yaml of the other")
    parser.add_argument("--log", default="artifacts/events", help="impressions that were served")
    parser.add_argument("--bundle", default="artifacts/bundle")
    parser.add_argument("--feed", default="timeline", help="whose pages of the log")
    parser.add_argument("--requests", type=int, help="spread over the log; without, all")
    parser.add_argument("--services", default=SERVICES, help="module:function of the bundle's path")
    args = parser.parse_args()
    try:
        feeds = [Pipeline.build(configs.load(path, FeedConfig)) for path in (args.old, args.new)]
        queries = requests(args.log, args.requests, args.feed)
        services = services_of(args.services, args.bundle)
        if args.feed == "timeline":
            for feed in feeds:
                feed.adopt(getattr(services, "feed_settings", {}))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    old, new = (asyncio.run(answer(feed, queries, services)) for feed in feeds)
    show(compare(old, new), len(queries), Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())

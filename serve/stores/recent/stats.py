"""Numbers on the store of recent posts.

Counters: posts `inserted`, `duplicate`, `from_future`, `too_old`; reads: `requests`, `rejected`,
`following_cut` and `excluded_cut` to their limits; `posts_asked`, `posts_returned`, and of both
`posts_returned_ratio`. Of reads that found any posts, their number `answered` and sums: age of the
newest, time from the oldest to the newest, share of replies, authors, posts per author.

Gauges: `rows` in memory; of what is there `users`, `posts`, `original_posts`, `secondary_posts`,
`video_posts`; `deleted_posts`, those remembered as deleted, whether they came or not.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from serve.stores.recent.lists import Held
from serve.stores.recent.reads import is_video
from serve.stores.recent.rows import Columns

COUNTED = (
    *("inserted", "duplicate", "from_future", "too_old"),
    *("requests", "rejected", "following_cut", "excluded_cut", "posts_asked"),
    *("answered", "posts_returned", "sum_freshness_s", "sum_time_range_s", "sum_reply_ratio"),
    *("sum_unique_authors", "sum_posts_per_author"),
)


class Counters:
    """Sums since the start, all at 0 then. Any thread may add."""

    def __init__(self) -> None:
        self._adding = threading.Lock()
        self._sums: dict[str, float] = dict.fromkeys(COUNTED, 0)

    def add(self, **numbers: float) -> None:
        """Add to some of them."""
        with self._adding:
            for name, number in numbers.items():
                self._sums[name] += number

    def values(self) -> dict[str, float]:
        """All of them as they are now."""
        with self._adding:
            sums = dict(self._sums)
        asked = sums["posts_asked"]
        return sums | {"posts_returned_ratio": sums["posts_returned"] / asked if asked else 0.0}


def about(c: Columns, rows: NDArray, now_ms: int) -> dict[str, float]:
    """What the counters say of the posts of one read, newest first."""
    if not len(rows):
        return {}
    newest_ms, oldest_ms = c.created_at_ms[rows[[0, -1]]]
    num_authors = len(set(c.author_id[rows].tolist()))
    num_replies = np.count_nonzero((c.parent_id[rows] > 0) & ~c.is_repost[rows])
    return {
        "answered": 1,
        "posts_returned": len(rows),
        "sum_freshness_s": (now_ms - newest_ms) / 1000,
        "sum_time_range_s": (newest_ms - oldest_ms) / 1000,
        "sum_reply_ratio": num_replies / len(rows),
        "sum_unique_authors": num_authors,
        "sum_posts_per_author": len(rows) / num_authors,
    }


def gauges(held: Held, now_ms: int, oldest_ms: int) -> dict[str, float]:
    """What there is now."""
    num = held.num  # before the columns; see Held
    c = held.columns
    rows = np.flatnonzero((c.created_at_ms[:num] >= oldest_ms) & ~c.dead[:num])
    secondary = int((c.parent_id[rows] > 0).sum())
    return {
        "rows": num,
        "users": len(np.unique(c.author_id[rows])),
        "posts": len(rows),
        "original_posts": len(rows) - secondary,
        "secondary_posts": secondary,
        "video_posts": int(is_video(c, rows, oldest_ms).sum()),
        "deleted_posts": int((c.dead[:num] & (c.marked_until_ms[:num] >= now_ms)).sum()),
    }

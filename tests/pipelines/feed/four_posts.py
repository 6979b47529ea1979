"""Four posts and a viewer to judge them for: no replies, no reposts, and what a test says."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.feed.services import Graph, Served, Viewer
from pipelines.feed.stages import FeedQuery, with_context
from pipelines.feed.table import Candidates

IDS = np.array([1, 2, 3, 4])
NOW_S = 10_000_000.0
SERVED = Served(
    post_id=np.array([9, 1, 2, 4]),
    author_id=IDS,
    topic_ids=IDS[:, None],
    shown_at_ms=np.array([0, NOW_S - 601, NOW_S - 600, NOW_S], np.int64) * 1000,
)
QUERY = with_context(
    FeedQuery(user_id=3, limit=10, now_ms=10_000_000_000, request_id="r"),
    {
        "query.seen": np.array([2, 4]),
        "query.graph": Graph(IDS[:0], blocked=np.array([1]), muted=np.array([4])),
        "query.served": SERVED,
        "query.viewer": Viewer(num_followers=5, created_at_s=NOW_S - 1799),
    },
)
PLAIN = {
    name: np.zeros(4, np.int64)
    for name in ("reply_to_post_id", "repost_of_post_id", "repost_author_id")
}


def posts(**columns: Any) -> Candidates:
    """Posts 1 to 4: no replies, no reposts, and these columns."""
    arrays = {name: np.array(values) for name, values in columns.items()}
    return Candidates({"post_id": IDS, **PLAIN, **arrays})


def kept(component: Any, query: FeedQuery = QUERY, **columns: Any) -> str:
    """Y for each post that stays, n for each that goes."""
    return "".join("ny"[keep] for keep in component.keep(query, posts(**columns)).tolist())

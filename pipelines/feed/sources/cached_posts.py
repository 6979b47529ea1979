from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class CachedPosts(Source):
    """Brings the posts that were scored for an earlier page, in the order they had then."""

    needs = ()
    wants = ("query.cached_posts",)
    fails = "open"
    beside_cache = True
    zooms = True  # they were scored for the same zoom
    num_posts: PositiveInt = 750

    def enabled(self, query: FeedQuery) -> bool:
        """Only where there are any that will do."""
        return query.from_cache

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Take them from the query; waits for nothing."""
        scored = query["cached_posts"]
        post_id = scored.post_id[: self.num_posts]
        return Hits(post_id, np.full(len(post_id), scored.at_ms / 1000))

    def describe(self, query: FeedQuery, value: float) -> str:
        """Turn the instant into an age."""
        return f"scored {query.now_s - value:.0f} s before"

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.pool import pool_key
from pipelines.feed.services import Scored, Services
from pipelines.feed.stages import FeedQuery, SideEffect
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class CandidateCache(SideEffect):
    """Keeps the best scored posts with their predictions for the viewer's next pages.

    Not where the page was made from such posts itself, so that they get no younger; and not where
    anything failed, so that one bad moment is not the next pages' too.
    """

    needs = ("post_id", "p_action", "query.history")
    wants = ("query.cached_posts", "query.degraded")
    whole_pool = True
    num_posts: PositiveInt = 750

    def enabled(self, query: FeedQuery) -> bool:
        """Only where the cache was asked and had nothing, and all went well."""
        asked = "cached_posts" in query.context
        return asked and not query.from_cache and not query.context.get("degraded")

    async def run(self, query: FeedQuery, page: Candidates, services: Services) -> None:
        """Hand them to the cache."""
        best, others = page.post_id[: self.num_posts], page.post_id[self.num_posts :]
        p_action = page["p_action"][: self.num_posts]
        # Copies: a slice would keep the whole table in memory.
        scored = Scored(best.copy(), p_action.copy(), np.sort(others), query.now_ms)
        await services.cache(query.user_id, pool_key(query), scored)

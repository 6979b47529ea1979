from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class InNetwork(Source):
    """Brings the newest posts of the authors that the viewer follows.

    It is cheap, so it is asked for every page. Beside posts of an earlier page it leaves out what
    did not get among those.
    """

    needs = ("query.graph",)
    wants = ("query.cached_posts",)
    fails = "open"
    beside_cache = True
    timeout_ms: PositiveInt = 500
    num_posts: PositiveInt = 1200

    def enabled(self, query: FeedQuery) -> bool:
        """Only for a viewer who follows someone."""
        return len(query["graph"].followed) > 0

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Ask the store of recent posts."""
        followed = query["graph"].followed
        hits = await services.recent(query.user_id, followed, self.num_posts, query.now_ms)
        if not query.from_cache:
            return hits
        keep = ~np.isin(hits.post_id, query["cached_posts"].left_out)
        return Hits(hits.post_id[keep], hits.value[keep])

    def describe(self, query: FeedQuery, value: float) -> str:
        """Turn the publication time into an age."""
        return f"{(query.now_s - value) / 3600:.0f} h old"

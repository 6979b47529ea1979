from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class TwoTower(Source):
    """Brings the posts nearest to the viewer's taste, from anyone."""

    needs = ("query.history",)
    fails = "open"
    timeout_ms: PositiveInt = 1000
    num_posts: PositiveInt = 1000

    def enabled(self, query: FeedQuery) -> bool:
        """A viewer without a history has no place in the space yet."""
        return query["history"] is not None and not query.in_network_only

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Search the index by inner product."""
        return await services.retrieve(query["history"], self.num_posts, query.now_ms)

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the inner product."""
        return f"similarity {value:.2f}"

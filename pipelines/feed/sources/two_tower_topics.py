from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class TwoTowerTopics(Source):
    """Brings the posts nearest to the viewer's taste among those on the topics asked for.

    They may lie far below what `two_tower` brings of all posts, of which the filter topics
    may leave none.
    """

    needs = ("query.history",)
    fails = "open"
    timeout_ms: PositiveInt = 1000
    num_posts: PositiveInt = 500

    def enabled(self, query: FeedQuery) -> bool:
        """Where the request names topics, for a viewer who has a place in the space."""
        return bool(query.topic_ids) and query["history"] is not None and not query.in_network_only

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Search the posts on these topics by inner product."""
        return await services.retrieve(
            query["history"], self.num_posts, query.now_ms, query.topic_ids
        )

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the inner product."""
        return f"similarity {value:.2f}"

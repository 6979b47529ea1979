from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class Replies(Source):
    """Brings the replies to the post that the request names, and those to them, at any depth."""

    needs = ()
    fails = "open"
    timeout_ms: PositiveInt = 500
    num_posts: PositiveInt = 1000

    def enabled(self, query: FeedQuery) -> bool:
        """Where the request names a post."""
        return query.focal_post_id > 0

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Follow who answers whom."""
        return await services.conversation(query.focal_post_id, self.num_posts)

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the depth."""
        depth = round(1 / value)
        return "answers the post" if depth == 1 else f"{depth} replies deep"

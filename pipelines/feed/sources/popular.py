from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class Popular(Source):
    """Brings what most viewers like: the feed of a new viewer, a top-up for all others."""

    needs = ()
    fails = "open"
    timeout_ms: PositiveInt = 200
    num_posts: PositiveInt = 200

    def enabled(self, query: FeedQuery) -> bool:
        """Not where the request wants posts by followed authors alone."""
        return not query.in_network_only

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Take the head of the popularity list."""
        return await services.popular(self.num_posts)

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the rate."""
        return f"popularity {value:.2f}"

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class TextSearch(Source):
    """Brings the posts that hold words of the text searched for, rare words first."""

    needs = ()
    fails = "open"  # semantic_search may find them too
    timeout_ms: PositiveInt = 500
    num_posts: PositiveInt = 400

    def enabled(self, query: FeedQuery) -> bool:
        """Where something is searched for."""
        return bool(query.text)

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Search the index of words."""
        return await services.search(query.text, self.num_posts, "words")

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the measure."""
        return f"words match, BM25 {value:.2f}"

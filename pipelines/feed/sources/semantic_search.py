from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class SemanticSearch(Source):
    """Brings the posts that mean what the text searched for means, in whatever words.

    Where posts have no vectors of text, or the server has no encoder for the query, it brings
    none.
    """

    needs = ()
    fails = "open"  # text_search may find them too
    timeout_ms: PositiveInt = 1000
    num_posts: PositiveInt = 200

    def enabled(self, query: FeedQuery) -> bool:
        """Where something is searched for."""
        return bool(query.text)

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Compare vectors of text."""
        return await services.search(query.text, self.num_posts, "meaning")

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the cosine."""
        return f"meaning matches {value:.2f}"

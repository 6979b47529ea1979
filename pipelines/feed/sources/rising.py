from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class Rising(Source):
    """Brings the posts that the last hours made most of: what is taking off, whoever it is from.

    Off unless `num_posts` is set. Posts rank by (a + m p) / (s + m) / h: s showings and a likes,
    replies and reposts in the window, h hours of it that the post has been there (at least
    one), p = Σa / Σs over all posts, and m = 20 showings at that rate, so that one like after
    one showing is no wave. Posts without any such act in the window do not rise.
    """

    needs = ()
    fails = "open"
    timeout_ms: PositiveInt = 500
    num_posts: NonNegativeInt = 0
    window_hours: PositiveFloat = 24.0

    def enabled(self, query: FeedQuery) -> bool:
        """Not where the request wants posts by followed authors alone."""
        return self.num_posts > 0 and not query.in_network_only

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Ask for the counts at both ends of the window."""
        return await services.rising(self.num_posts, query.now_ms, self.window_hours)

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the velocity."""
        return f"rising, {value:.2g} acts per showing and hour"

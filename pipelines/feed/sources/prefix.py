from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Hits, Services, Zoom
from pipelines.feed.stages import FeedQuery, Source


@dataclass(frozen=True, kw_only=True)
class Prefix(Source):
    """Brings posts whose texts are near what the viewer liked, as coarsely as the zoom says.

    Posts that nobody has seen are found as well as others, and it needs no ids. Where the request
    names a zoom, this is the only source; `zoom` here asks it for all other requests too, beside
    the others. It needs a bundle with prefix vectors.
    """

    needs = ("query.history",)
    fails = "open"
    zooms = True
    timeout_ms: PositiveInt = 1000
    num_posts: PositiveInt = 500
    zoom: Zoom | None = None  # where the request names none; null = not asked then

    def enabled(self, query: FeedQuery) -> bool:
        """Where there is a zoom, for a viewer who has done something."""
        zoom = self.zoom if query.zoom is None else query.zoom
        return zoom is not None and query["history"] is not None and not query.in_network_only

    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Search the prefix vectors."""
        zoom = self.zoom if query.zoom is None else query.zoom
        assert zoom is not None  # else it is not enabled
        return await services.near(query["history"], self.num_posts, zoom)

    def describe(self, query: FeedQuery, value: float) -> str:
        """Name the similarity."""
        return f"like what was liked {value:.2f}"

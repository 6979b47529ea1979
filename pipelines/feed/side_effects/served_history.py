from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, SideEffect
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class ServedHistory(SideEffect):
    """Keeps the served page for the viewer, so that the next page shows something else."""

    needs = ("post_id",)
    timeout_ms: PositiveInt = 1000

    async def run(self, query: FeedQuery, page: Candidates, services: Services) -> None:
        """Hand the page to the store of viewers."""
        await services.remember(query.user_id, query.request_id, query.now_ms, query.surface, page)

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, SideEffect
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class Impressions(SideEffect):
    """Writes the served page to the event log, from which the next models learn."""

    needs = ("post_id",)
    timeout_ms: PositiveInt = 5000

    async def run(self, query: FeedQuery, page: Candidates, services: Services) -> None:
        """Hand the page to the log."""
        await services.record(query.user_id, query.request_id, query.now_ms, query.surface, page)

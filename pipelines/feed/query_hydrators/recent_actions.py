from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveInt

from pipelines.features import History
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, QueryHydrator


@dataclass(frozen=True, kw_only=True)
class RecentActions(QueryHydrator):
    """Looks up what the viewer has done since the bundle was made."""

    needs = ()
    provides: ClassVar = {"query.recent_actions": History}
    fails = "open"  # the bundle's history is better than none; whom the viewer blocks, graph knows
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the store of viewers."""
        recent = await services.recent_actions(query.user_id, query.now_ms)
        return {"query.recent_actions": recent}

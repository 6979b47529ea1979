from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveInt

from pipelines.features import History as ViewerHistory
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, QueryHydrator


@dataclass(frozen=True, kw_only=True)
class History(QueryHydrator):
    """Looks up what the viewer has done, up to now; None for a viewer nobody has heard of."""

    needs = ()
    wants = ("query.recent_actions",)
    provides: ClassVar = {"query.history": ViewerHistory | None}
    fails = "open"  # without it the feed is as for a new viewer, but says that it is degraded
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the profile store; add what was done since."""
        history = await services.history(query.user_id)
        recent = query.context.get("recent_actions")
        if recent is not None and len(recent.post_id):
            history = (history or ViewerHistory.empty(query.user_id)).then(recent)
        return {"query.history": history}

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveInt

from pipelines.feed.services import Served as ServedLately
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, QueryHydrator


@dataclass(frozen=True, kw_only=True)
class Served(QueryHydrator):
    """Looks up what the viewer's last pages held, and when they were served."""

    needs = ()
    provides: ClassVar = {"query.served": ServedLately}
    fails = "open"  # more of the same is better than an empty page
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the store of viewers."""
        return {"query.served": await services.served(query.user_id)}

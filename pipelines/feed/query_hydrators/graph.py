from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveInt

from pipelines.feed.services import Graph as ViewerGraph
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, QueryHydrator


@dataclass(frozen=True, kw_only=True)
class Graph(QueryHydrator):
    """Looks up whom the viewer follows, blocks and mutes."""

    needs = ()
    provides: ClassVar = {"query.graph": ViewerGraph}
    # Filters that protect by it fail closed by themselves. So that a store of viewers which is down
    # neither lifts a block nor empties every page, this does not build on `query.recent_actions`:
    # the service tells of the newest blocks, too, from a place of their own.
    fails = "open"
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the graph store."""
        return {"query.graph": await services.graph(query.user_id)}

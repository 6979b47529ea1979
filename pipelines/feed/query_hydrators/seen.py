from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, QueryHydrator


@dataclass(frozen=True, kw_only=True)
class Seen(QueryHydrator):
    """Looks up which posts the viewer was already shown; adds what the client says. Sorted."""

    needs = ()
    provides: ClassVar = {"query.seen": np.ndarray}
    fails = "open"  # a repeated post is better than an empty page
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the store of served posts."""
        seen = await services.seen(query.user_id)
        if query.seen_ids:
            seen = np.union1d(seen, np.array(query.seen_ids, np.int64))
        return {"query.seen": seen}

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat

from pipelines.feed.pool import pool_key
from pipelines.feed.services import Scored, Services
from pipelines.feed.stages import FeedQuery, QueryHydrator


@dataclass(frozen=True, kw_only=True)
class CachedPosts(QueryHydrator):
    """Looks for posts scored for an earlier page that will do for this one; None if there are none.

    They do if they were scored in the last `ttl_s` by the same models, with the same settings,
    surface, wishes and history of the viewer, and if those not shown yet are `spare` times the
    page: filters and rules of the page drop some. Sources then need not be asked, nor most posts
    ranked. `cached_posts: null` switches all of it off.
    """

    needs = ("query.history", "query.seen", "query.served")
    provides: ClassVar = {"query.cached_posts": Scored | None}
    fails = "open"  # the page is then made as if it were the first
    ttl_s: PositiveFloat = 600.0
    spare: Annotated[float, Field(ge=1)] = 3.0

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the cache, then count what is left."""
        if query.cold_start:
            return {"query.cached_posts": None}  # nothing was predicted
        oldest_ms = query.now_ms - int(self.ttl_s * 1000)
        scored = await services.cached(query.user_id, pool_key(query), oldest_ms, query.now_ms)
        if scored is not None:
            shown = np.isin(scored.post_id, np.union1d(query["seen"], query["served"].post_id))
            if (~shown).sum() < self.spare * query.limit:
                scored = None
        return {"query.cached_posts": scored}

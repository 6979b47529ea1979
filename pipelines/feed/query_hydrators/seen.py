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
    """Gathers the posts that the viewer was shown or did something to, sorted.

    They are those of the viewer's history, of the pages that `served` knows, and those that the
    client names.
    """

    needs = ()
    wants = ("query.served", "query.recent_actions")  # some are better than none
    provides: ClassVar = {"query.seen": np.ndarray}
    fails = "open"  # a repeated post is better than an empty page
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the profile store; add the rest."""
        seen = [await services.seen(query.user_id), np.array(query.seen_ids, np.int64)]
        parts = (query.context.get(name) for name in ("served", "recent_actions"))
        seen += [part.post_id for part in parts if part is not None]
        return {"query.seen": np.unique(np.concatenate(seen))}

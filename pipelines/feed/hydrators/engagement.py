from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Hydrator
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class Engagement(Hydrator):
    """Counts how often each post was shown, liked, answered, repeated and quoted by now."""

    needs = ("post_id",)
    provides: ClassVar = dict.fromkeys(
        ("num_views", "num_likes", "num_replies", "num_reposts", "num_quotes"),
        np.int64,  # -1 = not counted
    )
    fails = "open"  # without it no post counts as new or as liked
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask for the counts as of the request."""
        return await services.engagement(posts.post_id, query.now_ms)

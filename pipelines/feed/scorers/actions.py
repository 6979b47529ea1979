from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class Actions(Scorer):
    """Predicts what the viewer would do with each post: probabilities, and seconds of dwell."""

    needs = ("author_id", "query.history")
    provides: ClassVar = {"p_action": np.float32}  # [C, A]
    fails = "open"  # base_score falls back to popularity
    timeout_ms: PositiveInt = 2000

    def enabled(self, query: FeedQuery) -> bool:
        """Nothing to predict from for a viewer without a history."""
        return query["history"] is not None

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask the ranker once for all posts."""
        p_action = await services.rank(
            query["history"], posts.post_id, posts["author_id"], query.surface, query.now_ms
        )
        return {"p_action": p_action}

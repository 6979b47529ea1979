from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class Value(Scorer):
    """Weighs the predicted actions: what the feed would gain by showing each post.

    The value model answers by the bundle's weights; where those in use differ, the difference
    times the predictions is added.
    """

    needs = ("p_action", "action_weight", "query.blend")
    provides: ClassVar = {"value": np.float64}  # may be negative
    fails = "open"  # base_score falls back to popularity
    timeout_ms: PositiveInt = 500

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask the value model."""
        value = await services.value(posts["p_action"])
        change = posts["action_weight"] - query["blend"].own
        return {"value": value + np.einsum("ca,ca->c", posts["p_action"], change)}

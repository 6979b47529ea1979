from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class FinalScore(Scorer):
    """Multiplies the base score by every column named `*_multiplier`."""

    needs = ("base_score",)
    wants = ("*_multiplier",)
    provides: ClassVar = {"score": np.float64}
    fails = "closed"  # an order without meaning is no feed

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Take the product in the order of the columns; waits for nothing."""
        score = posts["base_score"]
        for name, values in posts.items():
            if name.endswith("_multiplier"):
                score = score * values
        return {"score": score}

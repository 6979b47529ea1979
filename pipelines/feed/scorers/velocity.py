from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class Velocity(Scorer):
    """Raises posts that the source rising brought: 1 + boost · velocity / that of the fastest.

    Off unless `boost` is set.
    """

    needs = ("post_id",)
    wants = ("rising_value",)
    provides: ClassVar = {"velocity_multiplier": np.float64}
    fails = "open"
    boost: NonNegativeFloat = 0.0

    def enabled(self, query: FeedQuery) -> bool:
        """Where a boost is set."""
        return self.boost > 0

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Compare with the fastest of these posts; waits for nothing."""
        if "rising_value" not in posts:
            return {"velocity_multiplier": np.ones(len(posts))}
        velocity = np.nan_to_num(posts["rising_value"])
        fastest = velocity.max(initial=0.0) or 1.0
        return {"velocity_multiplier": 1 + self.boost * velocity / fastest}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so where it shows."""
        multiplier = posts["velocity_multiplier"][row]
        return f"rising ×{multiplier:.2f}" if multiplier > 1.005 else None

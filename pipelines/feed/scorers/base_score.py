from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class BaseScore(Scorer):
    """Turns values into scores that are never negative; without values, popularity.

    A multiplier below 1 must never raise a post, so values below zero are squeezed
    into [0, `offset`): whatever is bad on the whole ranks below all that is good.
    The defaults are the published sums of negative and of all weights.
    """

    needs = ("popularity",)
    wants = ("value",)
    provides: ClassVar = {"base_score": np.float64}
    fails = "closed"  # an order without meaning is no feed
    offset: PositiveFloat = 0.001
    negative_weights: NonNegativeFloat = 367.22
    all_weights: PositiveFloat = 410.54

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Take the values if the ranker and the value model answered; waits for nothing."""
        if "value" in posts:
            return {"base_score": self.lifted(posts["value"])}
        return {"base_score": posts["popularity"]}

    def lifted(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Non-decreasing in `value`; v + offset from 0 up; NaN stays NaN. float64 [C]."""
        squeezed = (value + self.negative_weights) / self.all_weights * self.offset
        return np.where(value >= 0, value + self.offset, np.maximum(squeezed, 0.0))

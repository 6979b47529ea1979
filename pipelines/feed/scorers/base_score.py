from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pipelines.feed.services import Blend, Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns
from pipelines.schema import ACTION_NAMES, DWELL_TIME

_DWELL = ACTION_NAMES[DWELL_TIME]


@dataclass(frozen=True, kw_only=True)
class BaseScore(Scorer):
    """Turns values into scores that are never negative; without values, popularity.

    What scorers add is on top: every column named `*_worth`, NaN = nothing.

    A multiplier below 1 must never raise a post, so values v below zero are squeezed into
    [0, `offset`], in their order: (v + N) / N · offset, N the sum of the negative weights in
    use, below which no sum of weighted probabilities lies. Whatever is bad on the whole ranks
    below all that is good. `divide_by_all` is the rule as first published, which divides by
    the sum of all weights and so leaves a gap below 0 of up to a whole offset.
    """

    needs = ("popularity",)
    wants = ("value", "query.blend", "*_worth")
    provides: ClassVar = {"base_score": np.float64}
    fails = "closed"  # an order without meaning is no feed
    offset: PositiveFloat = 0.001
    divide_by_all: bool = False

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Take the values if the ranker and the value model answered; waits for nothing."""
        score = posts["popularity"]
        if "value" in posts:
            score = self.lifted(posts["value"], query["blend"])
        for name, values in posts.items():
            if name.endswith("_worth"):
                score = score + np.nan_to_num(values)
        return {"base_score": score}

    def lifted(self, value: NDArray[np.float64], blend: Blend) -> NDArray[np.float64]:
        """Non-decreasing in `value`; v + offset from 0 up; NaN stays NaN. float64 [C].

        Amounts of continuous actions have no bound and are in no sum.
        """
        weights = np.array(
            [w for name, w in zip(blend.actions, blend.weights, strict=True) if name != _DWELL]
        )
        negative = float(-weights[weights < 0].sum()) or 1.0  # of a model that knows no harm
        divisor = float(np.abs(weights).sum()) if self.divide_by_all else negative
        squeezed = (value + negative) / divisor * self.offset
        return np.where(value >= 0, value + self.offset, np.maximum(squeezed, 0.0))

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class Age(Filter):
    """Drops posts older than `max_age_hours`, and those of unknown age."""

    needs = ("created_at_s",)
    fails = "open"
    max_age_hours: PositiveFloat = 48.0

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Compare with the instant of the request."""
        age_s = query.now_s - posts["created_at_s"]
        return age_s <= self.max_age_hours * 3600

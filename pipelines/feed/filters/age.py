from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class Age(Filter):
    """Drops posts older than `max_age_hours`.

    When a post was made is optional in schema.POSTS, so by default a post of unknown
    age is kept: a log without ages would otherwise serve empty pages. `drop_unknown`
    restores the published rule, which keeps a post only if its age is known.
    """

    needs = ("created_at_s",)
    fails = "open"
    max_age_hours: PositiveFloat = 48.0
    drop_unknown: bool = False

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Compare with the instant of the request."""
        age_s = query.now_s - posts["created_at_s"]
        young = age_s <= self.max_age_hours * 3600  # False where the age is NaN
        return young if self.drop_unknown else young | np.isnan(age_s)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class NewUserMinEngagement(Filter):
    """Shows an account that was just made only posts that some have liked, unless it follows them.

    Off unless `min_likes` is set. An account of unknown age is not new, and a post whose
    likes are not counted stays.
    """

    needs = ("in_network", "num_likes", "query.viewer")
    fails = "open"
    min_likes: NonNegativeInt = 0
    max_account_age_s: PositiveFloat = 1800.0

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look at the age of the account, then at the likes."""
        age_s = query.now_s - query["viewer"].created_at_s
        if not age_s < self.max_account_age_s:
            return np.ones(len(posts), np.bool_)
        num_likes = posts["num_likes"]
        return posts["in_network"] | (num_likes < 0) | (num_likes >= self.min_likes)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class FollowedAuthor(Filter):
    """Drops posts by authors whom the viewer follows: for a feed to discover others by.

    Off unless `drop` is set.
    """

    needs = ("in_network",)
    fails = "open"  # a post by someone known is no harm
    drop: bool = False

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look at the mark."""
        return ~posts["in_network"] | (not self.drop)

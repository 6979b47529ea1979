from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class PreviouslySeen(Filter):
    """Drops posts that the viewer was shown before."""

    needs = ("query.seen",)
    fails = "open"  # a repeated post is better than an empty page

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each post up among those shown."""
        return ~np.isin(posts.post_id, query["seen"])

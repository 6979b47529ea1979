from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class Video(Filter):
    """Drops videos where the request excludes them; what has no known length is none."""

    needs = ("duration_s",)
    fails = "closed"  # the request says what may be shown

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look at the length; NaN is not longer than 0."""
        return ~(posts["duration_s"] > 0) | (not query.exclude_video)

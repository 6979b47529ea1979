from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class UnknownPost(Filter):
    """Drops posts that the post store does not know: deleted, or never there."""

    needs = ("known",)
    fails = "closed"  # nothing is shown of which nothing is known

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Take the store's word."""
        return posts["known"]

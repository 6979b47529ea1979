from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class MutedKeyword(Filter):
    """Drops posts that mention a word or phrase which the viewer muted."""

    needs = ("mentions_muted",)
    fails = "closed"  # whether a post mentions one is not known, and the viewer asked for it

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look at the mark that the hydrator muted_words left."""
        return ~posts["mentions_muted"]

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class InNetworkOnly(Filter):
    """Drops posts from outside the viewer's network where the request asks for that."""

    needs = ("in_network",)
    fails = "closed"  # the request says what may be shown

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look at the mark."""
        return posts["in_network"] | (not query.in_network_only)

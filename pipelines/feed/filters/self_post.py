from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class SelfPost(Filter):
    """Drops the viewer's own posts."""

    needs = ("author_id",)
    fails = "open"

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Compare author and viewer."""
        return posts["author_id"] != query.user_id

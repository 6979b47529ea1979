from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class SelfPost(Filter):
    """Drops the viewer's own posts, and others' reposts of them.

    `reposts: false` is the rule as first published, which looks at who posted alone.
    """

    needs = ("author_id", "repost_author_id")
    fails = "open"
    reposts: bool = True

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Compare authors and viewer."""
        mine = posts["author_id"] == query.user_id
        if self.reposts:
            mine |= posts["repost_author_id"] == query.user_id
        return ~mine

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.lookup import any_in
from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class BlockedBy(Filter):
    """Drops posts, and others' reposts of posts, of authors who block the viewer.

    Viewers and authors must be accounts of one numbering; switch it off where they are not.
    """

    needs = ("author_id", "repost_author_id", "query.graph")
    fails = "closed"  # what an author hides from someone is not shown to them

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each author up among those who block the viewer."""
        return ~any_in(posts, ("author_id", "repost_author_id"), query["graph"].blocked_by)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class MutedAuthor(Filter):
    """Drops posts of authors whom the viewer blocks or mutes."""

    needs = ("author_id", "query.graph")
    fails = "closed"  # showing a blocked author is worse than showing nothing

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each author up among the blocked and the muted."""
        graph = query["graph"]
        return ~np.isin(posts["author_id"], np.concatenate([graph.blocked, graph.muted]))

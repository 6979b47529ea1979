from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.lookup import any_in
from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class MutedAuthor(Filter):
    """Drops posts, and others' reposts of posts, of authors whom the viewer blocks or mutes.

    `reposts: false` is the rule as first published, which looks at who posted alone and so
    lets a blocked author in by way of anyone who repeats them.
    """

    needs = ("author_id", "repost_author_id", "query.graph")
    fails = "closed"  # showing a blocked author is worse than showing nothing
    reposts: bool = True

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each author up among the blocked and the muted."""
        graph = query["graph"]
        unwanted = np.concatenate([graph.blocked, graph.muted])
        columns = ("author_id", "repost_author_id") if self.reposts else ("author_id",)
        return ~any_in(posts, columns, unwanted)

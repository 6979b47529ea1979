from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class IneligibleSubscription(Filter):
    """Drops posts for subscribers of an author to whom the viewer does not subscribe, and reposts.

    `reposts: false` is the rule as first published, which looks at the post itself alone and so
    lets anyone who repeats it give it away.
    """

    needs = (
        *("author_id", "repost_author_id", "for_subscribers", "repost_for_subscribers"),
        "query.graph",
    )
    fails = "closed"  # what others pay for is not given away
    reposts: bool = True

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each author of a marked post up among those subscribed to; one's own are open."""
        keep = self._may_see(query, posts, "for_subscribers", "author_id")
        if self.reposts:
            keep &= self._may_see(query, posts, "repost_for_subscribers", "repost_author_id")
        return keep

    def _may_see(
        self, query: FeedQuery, posts: Candidates, mark: str, author: str
    ) -> NDArray[np.bool_]:
        if not posts[mark].any():  # as in most logs
            return np.ones(len(posts), np.bool_)
        mine = np.isin(posts[author], query["graph"].subscribed) | (posts[author] == query.user_id)
        return ~posts[mark] | mine

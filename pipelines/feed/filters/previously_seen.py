from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.bloom import any_may_hold
from pipelines.feed.lookup import RELATED, any_in
from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class PreviouslySeen(Filter):
    """Drops posts that the viewer was shown before, and reposts of them or replies to them.

    What the client's Bloom filters may hold counts as shown. `related: false` looks at the posts
    themselves alone.
    """

    needs = ("post_id", "repost_of_post_id", "reply_to_post_id", "query.seen")
    fails = "open"  # a repeated post is better than an empty page
    related: bool = True

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each post up among those shown."""
        columns = RELATED if self.related else ("post_id",)
        seen = any_in(posts, columns, query["seen"])
        for name in columns if query.bloom_filters else ():
            seen |= any_may_hold(query.bloom_filters, posts[name])
        return ~seen

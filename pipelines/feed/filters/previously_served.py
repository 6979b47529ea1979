from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from pipelines.feed.lookup import RELATED, any_in
from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class PreviouslyServed(Filter):
    """Drops what pages of the last minutes held, and reposts of it or replies to it.

    Unlike `previously_seen` it forgets: a client that loads a page in parts, or twice, gets
    something else each time, whether or not the viewer looked. Of a viewer who scrolls on, what
    the client says it has loaded is dropped however long ago that was.
    """

    needs = ("post_id", "repost_of_post_id", "reply_to_post_id", "query.served")
    fails = "open"  # a repeated post is better than an empty page
    window_s: PositiveFloat = 600.0
    max_posts: PositiveInt = 100  # newest posts that count

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each post up among those of the window."""
        served = query["served"]
        lately = query.now_ms - served.shown_at_ms <= self.window_s * 1000
        ids = served.post_id[lately][-self.max_posts :]
        if query.is_bottom_request:
            ids = np.concatenate([ids, np.array(query.served_ids, np.int64)])
        return ~any_in(posts, RELATED, ids)

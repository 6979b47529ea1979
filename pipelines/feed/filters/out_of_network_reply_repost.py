from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class OutOfNetworkReplyRepost(Filter):
    """Drops replies and reposts by people whom the viewer does not follow, and orphaned replies.

    An orphan answers a post whose author is not known, as where that post is gone: shown
    alone it makes no sense, whoever wrote it.
    """

    needs = ("in_network", "reply_to_post_id", "reply_to_author_id", "repost_of_post_id")
    fails = "open"
    replies: bool = True
    reposts: bool = True
    orphans: bool = True

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look at what the post is, then at whom it is from."""
        reply, repost = posts["reply_to_post_id"] > 0, posts["repost_of_post_id"] > 0
        unwanted = (reply & self.replies) | (repost & self.reposts)
        orphan = reply & (posts["reply_to_author_id"] == 0) & self.orphans
        return ~(unwanted & ~posts["in_network"] | orphan)

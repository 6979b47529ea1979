from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from pipelines.encoding import hash_ids
from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates

Percent = Annotated[float, Field(ge=0, le=100)]
_SHARES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class InventoryHoldout(Filter):
    """Withholds a share of all posts from each viewer, always the same, to measure their worth.

    Which ones follows from post, viewer and `salt`; another salt is another experiment. Off
    unless a percentage is set.
    """

    needs = ("post_id", "reply_to_post_id", "repost_of_post_id")
    fails = "open"
    original_percent: Percent = 0.0
    reply_percent: Percent = 0.0
    repost_percent: Percent = 0.0
    salt: NonNegativeInt = 0

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Compare a number that follows from post and viewer with the percentage of its kind."""
        by_kind = (self.repost_percent, self.reply_percent, self.original_percent)
        if not any(by_kind):
            return np.ones(len(posts), np.bool_)
        kinds = [posts["repost_of_post_id"] > 0, posts["reply_to_post_id"] > 0]
        percent = np.select(kinds, by_kind[:2], by_kind[2])
        viewer = hash_ids(query.user_id, 1, 2**62, self.salt)
        share = hash_ids(posts.post_id ^ viewer, 1, _SHARES + 1, self.salt)[:, 0]  # 1 to _SHARES
        return share > percent / 100 * _SHARES

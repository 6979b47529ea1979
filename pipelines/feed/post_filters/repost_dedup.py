from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, PostFilter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class RepostDedup(PostFilter):
    """Shows a post once, be it the original or a repost of it: whichever ranks best.

    So it does not matter in which order sources bring them. `keep_originals` is the rule as
    first published, by which an original stays although a repost of it stands above.
    """

    needs = ("post_id", "repost_of_post_id")
    fails = "open"
    keep_originals: bool = False

    def keep(self, query: FeedQuery, page: Candidates) -> NDArray[np.bool_]:
        """Keep the first of those that show the same post."""
        original = page["repost_of_post_id"] == 0
        shown = np.where(original, page.post_id, page["repost_of_post_id"])
        keep = np.zeros(len(page), np.bool_)
        keep[np.unique(shown, return_index=True)[1]] = True
        return keep | original if self.keep_originals else keep

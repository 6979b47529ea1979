from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class UnknownPost(Filter):
    """Drops posts that the post store does not know: deleted, or never there.

    `require_text` is the rule as first published, which also drops posts without text, such
    as a picture alone, or without an author.
    """

    needs = ("known", "author_id", "has_text")
    fails = "closed"  # nothing is shown of which nothing is known
    require_text: bool = False

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Take the store's word."""
        if not self.require_text:
            return posts["known"]
        return posts["known"] & (posts["author_id"] > 0) & posts["has_text"]

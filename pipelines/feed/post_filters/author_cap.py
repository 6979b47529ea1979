from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from pipelines.feed.stages import FeedQuery, PostFilter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class AuthorCap(PostFilter):
    """Keeps at most `max_posts` of an author on a page, the best, and `min_gap` others in between.

    What stands too close to a post of the same author goes, and the next best by others take
    its place: the rule looks ahead through all that the selector chose. A page may stay short
    where there are not enough authors to fill it. Unknown authors (id 0) are each their own.
    """

    needs = ("author_id",)
    fails = "open"
    max_posts: PositiveInt = 3
    min_gap: NonNegativeInt = 0

    def keep(self, query: FeedQuery, page: Candidates) -> NDArray[np.bool_]:
        """Go down the page, place by place: where a post stands depends on who stays above."""
        places: dict[int, list[int]] = {}  # author -> of the posts that stay
        keep, place = np.zeros(len(page), np.bool_), 0
        for row, author_id in enumerate(page["author_id"].tolist()):
            mine = places.setdefault(author_id, [])
            close = bool(mine) and place - mine[-1] <= self.min_gap
            if author_id == 0 or (len(mine) < self.max_posts and not close):
                mine.append(place)
                keep[row], place = True, place + 1
        return keep

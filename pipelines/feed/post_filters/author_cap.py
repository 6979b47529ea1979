from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipelines.feed.stages import FeedQuery, PostFilter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class AuthorCap(PostFilter):
    """Keeps at most `max_posts` of an author on a page, the best; unknown authors are not counted.

    A page may stay short where there are not enough authors to fill it.
    """

    needs = ("author_id",)
    fails = "open"
    max_posts: PositiveInt = 3

    def keep(self, query: FeedQuery, page: Candidates) -> NDArray[np.bool_]:
        """Count each author's posts from the top."""
        author_id = page["author_id"]
        same = np.tril(author_id[:, None] == author_id[None, :])
        return (same.sum(axis=1) <= self.max_posts) | (author_id == 0)

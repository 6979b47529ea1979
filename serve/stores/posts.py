"""Facts about posts by id, the newest by author, and the most liked of all.

Axes: C posts asked for, m authors asked for, n posts found.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.feed.services import Hits
from serve.stores.lookup import Groups, column, positions


class PostStore:
    """All posts of a bundle as columns in memory; no lookup loops over posts."""

    def __init__(self, posts: pa.Table) -> None:
        """Index `posts`: the columns of schema.POSTS and `popularity`, at least one row."""
        posts = posts.sort_by("post_id")
        self.post_id = column(posts, "post_id", 0, np.int64)
        self._author_id = column(posts, "author_id", 0, np.int64)
        self._created_at_s = column(posts, "created_at_ms", np.nan) / 1000
        self._duration_s = column(posts, "duration_s", np.nan)
        self._popularity = column(posts, "popularity", 0.0)
        self._most_liked = np.argsort(-self._popularity, kind="stable")
        dated = np.flatnonzero((self._author_id > 0) & ~np.isnan(self._created_at_s))
        newest = dated[np.argsort(-self._created_at_s[dated], kind="stable")]
        self._by_author = Groups(self._author_id[newest], newest)

    def facts(self, post_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """What is known of posts [C]: the columns that `Services.posts` promises."""
        place, known = positions(self.post_id, post_id)
        return {
            "known": known,
            "author_id": np.where(known, self._author_id[place], 0),
            "created_at_s": np.where(known, self._created_at_s[place], np.nan),
            "duration_s": np.where(known, self._duration_s[place], np.nan),
            "popularity": np.where(known, self._popularity[place], 0.0),
        }

    def has(self, post_id: int) -> bool:
        """Whether the bundle knows the post."""
        return bool(positions(self.post_id, np.array([post_id]))[1][0])

    def newest(self, author_ids: NDArray[np.int64], num_posts: int) -> Hits:
        """Newest posts of `author_ids` [m], newest first; equal times by post id.

        A post without a known time or author is never found.
        """
        rows = self._by_author.first(np.unique(author_ids), at_most=num_posts)
        order = np.lexsort((rows, -self._created_at_s[rows]))[:num_posts]
        return Hits(self.post_id[rows[order]], self._created_at_s[rows[order]])

    def most_liked(self, num_posts: int) -> Hits:
        """Posts by popularity, best first; equal popularity by post id."""
        rows = self._most_liked[:num_posts]
        return Hits(self.post_id[rows], self._popularity[rows])

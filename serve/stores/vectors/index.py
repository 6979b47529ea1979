"""What every index of vectors promises.

Axes: B queries, D width of a vector, n posts given, k posts found, T topics of a post.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.encoding import pad
from serve.stores.post_table import MAX_TOPICS

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Topics = tuple[int, ...]  # of which a post must have one; none = any post will do


class VectorsError(RuntimeError):
    """The vectors cannot be reached now; the text says which, and why. Try again later."""


class VectorIndex(Protocol):
    """Vectors by post id. Many threads may use it; each call sees the index as of one instant.

    Any method may raise VectorsError.
    """

    def add(self, post_id: Ids, vectors: Vectors, topic_ids: Ids) -> None:
        """Put posts in, or others in the place of those that have their ids.

        Args:
            post_id: [n]; of an id that is there twice, the last counts.
            vectors: [n, D].
            topic_ids: 0 = no more. [n, T], any T.
        """

    def remove(self, post_id: Ids) -> None:
        """Take posts out; one that is not there is no error. [n]."""

    def search(
        self, query: Vectors, num_posts: int, topics: Sequence[Topics] | None = None
    ) -> tuple[Ids, Vectors]:
        """Posts with the largest inner products, best first.

        Args:
            query: [B, D].
            num_posts: how many at most.
            topics: of each query; None = of no query. With topics, every post that is on
                one of them is compared.

        Returns:
            Post ids and similarities [B, k]; id 0 and similarity -inf fill up rows.
        """

    def similarity(self, query: Vectors, post_id: Ids) -> Vectors:
        """Inner product of each query [B, D] and one post [B]; NaN = no such post. [B]."""

    def close(self) -> None:
        """Give back what is held; not to be used after."""


def topics_of(posts: pa.Table) -> Ids:
    """Topics of posts of schema.POSTS, as many as the filter topics looks at. [n, T], 0 = none."""
    lists = posts["topic_ids"]
    lists = pc.if_else(pc.is_null(lists), pa.scalar([], lists.type), lists)
    longest = pc.max(pc.list_value_length(lists)).as_py() or 0
    return pad(lists, min(longest, MAX_TOPICS))


def last_of_each(post_id: Ids) -> NDArray[np.intp]:
    """Places of the last row of each id. At most [n], in the order of the ids."""
    return len(post_id) - 1 - np.unique(post_id[::-1], return_index=True)[1]


def best(post_id: Ids, similarity: Vectors, num_posts: int) -> tuple[Ids, Vectors]:
    """The best of each row, best first; columns that no row fills are left out. [B, n] -> [B, k].

    A similarity of -inf is no post: its id becomes 0.
    """
    k = min(num_posts, similarity.shape[1])
    row = np.arange(len(similarity))[:, None]
    some = np.arange(similarity.shape[1])[None]
    if 0 < k < similarity.shape[1]:
        some = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    order = np.argsort(-similarity[row, some], axis=1, kind="stable")
    some = np.broadcast_to(some, order.shape)[row, order][:, :k]
    post_id, similarity = post_id[row, some], similarity[row, some]
    filled = similarity > -np.inf
    width = int(filled.sum(axis=1).max(initial=0))
    return np.where(filled, post_id, 0)[:, :width], similarity[:, :width]

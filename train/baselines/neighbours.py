"""Posts are near if the same viewers liked them.

Axes: Q viewers asked for, H liked posts of each, P posts of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.baselines.retrieval import Ids, together
from train.rows import Past, ranges


@dataclass(frozen=True)
class ItemNeighbours:
    """Item-kNN: the nearest posts of each liked one, by cosine over who liked them.

    (Deshpande and Karypis, "Item-based top-N recommendation algorithms", TOIS 2004.) With c(i, j)
    viewers who liked both, s(i, j) = c(i, j) / (sqrt(c(i, i) c(j, j)) + shrink), kept for the k
    posts j nearest to i; score(j) = sum of s(i, j) over liked posts i. Row i is
    `post[start[i] : start[i + 1]]` with `weight`.
    """

    start: Ids  # [P + 1]
    post: Ids
    weight: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        past: Past,
        corpus: Ids,
        num_neighbours: int = 100,
        shrink: float = 10.0,
        max_posts: int = 8_000,
    ) -> ItemNeighbours:
        """Compare the `max_posts` most liked posts; memory grows as their square."""
        column, near = together(past, corpus, max_posts)
        length = np.sqrt(near.diagonal())
        near /= np.outer(length, length) + np.float32(shrink)
        np.fill_diagonal(near, 0.0)
        k = min(num_neighbours, len(near))
        best = np.argpartition(-near, k - 1, axis=1)[:, :k] if k else np.zeros((0, 0), np.int64)
        known = np.flatnonzero(column >= 0)
        row_of = np.empty(len(near), np.int64)  # corpus row of each column
        row_of[column[known]] = known
        best = best[column[known]]  # in the order of the corpus
        weight = np.take_along_axis(near[column[known]], best, axis=1)
        num = np.zeros(len(corpus), np.int64)
        num[known] = (weight > 0).sum(axis=1)
        start = np.concatenate([[0], np.cumsum(num)])
        return cls(start, row_of[best[weight > 0]], weight[weight > 0])

    def scores(self, liked: Ids) -> NDArray[np.float32]:
        """As `Retriever.scores`; a post liked twice counts once."""
        num_posts = len(self.start) - 1
        liked = np.sort(liked, axis=1)
        query, slot = np.nonzero((liked >= 0) & (np.diff(liked, axis=1, prepend=-2) != 0))
        post = liked[query, slot]
        place, which = ranges(self.start[post], self.start[post + 1])
        cell = query[which] * num_posts + self.post[place]
        scores = np.bincount(cell, self.weight[place], minlength=len(liked) * num_posts)
        return scores.reshape(len(liked), num_posts).astype(np.float32)

"""Fitted on a log, each gives every post of the corpus a score per viewer.

Axes: Q viewers asked for, H liked posts of each, P posts of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

from pipelines.facts import find
from pipelines.schema import ACTIONS
from train.rows import Past, ranges

Ids = NDArray[np.int64]

# What counts as liking a post when a retrieval baseline looks at a viewer's past.
LIKES = sum(1 << i for i, a in enumerate(ACTIONS) if a.weight > 0 and not a.continuous)
_PAIR, _PRODUCT = 5e-8, 4e-11  # seconds to count a pair of likes; to multiply two numbers and add


class Retriever(Protocol):
    """A score for every post of the corpus, for each viewer."""

    def scores(self, liked: Ids) -> NDArray[np.float32]:
        """Higher is better; only the order counts.

        Args:
            liked: rows of the corpus, oldest first, -1 = padding. int64 [Q, H].

        Returns:
            float32 [Q, P].
        """


@dataclass(frozen=True)
class Popular:
    """The most liked posts, the same for everyone."""

    count: NDArray[np.float32]  # [P]

    @classmethod
    def fit(cls, past: Past, corpus: Ids, since_ms: int = 0) -> Popular:
        """Count likes from `since_ms` on; the times before the log are 0."""
        recent = past.at_ms >= since_ms
        _, post = _likes(past, corpus)
        post = post[recent[past.did & LIKES != 0]]
        return cls(np.bincount(post[post >= 0], minlength=len(corpus)).astype(np.float32))

    def scores(self, liked: Ids) -> NDArray[np.float32]:
        """As `Retriever.scores`."""
        return np.broadcast_to(self.count, (len(liked), len(self.count)))


@dataclass(frozen=True)
class Transitions:
    """What was liked soon after the posts that the viewer liked last.

    T[i, j] = sum over viewers and liked posts x_s = i, x_t = j, 0 < t - s <= window, of
    decay^(t - s - 1), over (sum_j of the same)^damping: with 1 every post says as much of what
    follows it, with 0 popular posts say more. score(j) = sum_r decay^r T[x_{-1-r}, j] over the
    `window` newest likes. Sparse: row i of T is `post[start[i] : start[i + 1]]` with `weight`.
    """

    start: Ids  # [P + 1]
    post: Ids
    weight: NDArray[np.float32]
    window: int
    decay: float

    @classmethod
    def fit(
        cls, past: Past, corpus: Ids, window: int = 10, decay: float = 0.6, damping: float = 1.0
    ) -> Transitions:
        """Count pairs of likes at most `window` apart.

        The defaults were best on the second-last items of MovieLens-1M (train/LOG.md).
        """
        num = len(corpus)
        user, post = _likes(past, corpus)
        key, weight = follows(user, post, num, window, decay)
        start = np.searchsorted(key, np.arange(num + 1) * num)
        source = key // num
        weight = weight / np.bincount(source, weight, minlength=num)[source] ** damping
        return cls(start, key % num, weight.astype(np.float32), window, decay)

    def scores(self, liked: Ids) -> NDArray[np.float32]:
        """As `Retriever.scores`."""
        num_posts = len(self.start) - 1
        newer = np.cumsum((liked >= 0)[:, ::-1], axis=1)[:, ::-1] - 1
        query, slot = np.nonzero((liked >= 0) & (newer < self.window))
        post = liked[query, slot]
        place, which = ranges(self.start[post], self.start[post + 1])
        cell = query[which] * num_posts + self.post[place]
        amount = self.weight[place] * (self.decay ** newer[query, slot])[which]
        scores = np.bincount(cell, amount, minlength=len(liked) * num_posts)
        return scores.reshape(len(liked), num_posts).astype(np.float32)


@dataclass(frozen=True)
class Ease:
    """Linear item-to-item weights in closed form.

    (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.) X [viewers, posts] = 1
    where liked, K = (X^T X + l2 I)^-1, B = I - K diag(1 / diag K); the score of a viewer is
    their row of X times B.
    """

    column: Ids  # [P], row of `weight` for posts of the corpus that have one, else -1
    weight: NDArray[np.float32]  # B

    @classmethod
    def fit(cls, past: Past, corpus: Ids, l2: float = 500.0, max_posts: int = 8_000) -> Ease:
        """Solve for the `max_posts` most liked posts; memory and time grow as its square, cube."""
        column, counts = together(past, corpus, max_posts)
        gram = torch.from_numpy(counts)
        gram.diagonal().add_(l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weight = (-inverse / inverse.diagonal()).contiguous()  # rows are what gets read
        weight.fill_diagonal_(0.0)
        return cls(column, weight.numpy())

    def scores(self, liked: Ids) -> NDArray[np.float32]:
        """As `Retriever.scores`; posts outside the fit score 0."""
        known = np.sort(np.where(liked >= 0, self.column[liked], -1), axis=1)
        once = (known >= 0) & (np.diff(known, axis=1, prepend=-2) != 0)  # X is 0 or 1
        count = once.sum(axis=1)
        fitted = embedding_bag(
            torch.from_numpy(known[once]),
            torch.from_numpy(self.weight),
            torch.from_numpy(np.cumsum(count) - count),
            mode="sum",
        ).numpy()
        scores = np.zeros((len(liked), len(self.column)), np.float32)
        scores[:, self.column >= 0] = fitted[:, self.column[self.column >= 0]]
        return scores


def follows(user: Ids, post: Ids, num_posts: int, window: int, decay: float) -> tuple[Ids, NDArray]:
    """What is liked after what: the matrix T of `Transitions`, where it is not 0.

    Args:
        user: of each event, in runs. [n].
        post: corpus row of each, oldest first in a run, -1 = none. [n].
        num_posts: of the corpus, P.
        window: events that a pair is at most apart.
        decay: for each event between.

    Returns:
        i * P + j, sorted, and T[i, j]. int64, float64 [m].
    """
    keys, weights = [], []
    for gap in range(1, min(window, len(post) - 1) + 1):
        pair = (user[gap:] == user[:-gap]) & (post[gap:] >= 0) & (post[:-gap] >= 0)
        keys.append((post[:-gap] * num_posts + post[gap:])[pair])
        weights.append(np.full(len(keys[-1]), decay ** (gap - 1)))
    key, row = np.unique(np.concatenate(keys), return_inverse=True)
    return key, np.bincount(row, np.concatenate(weights), minlength=len(key))


def top_posts(retriever: Retriever, liked: Ids, seen: tuple[Ids, Ids], num_posts: int) -> Ids:
    """The best posts that each viewer has not seen.

    Args:
        retriever: scores the corpus.
        liked: as `Retriever.scores`. int64 [Q, H].
        seen: query and corpus row of what is left out; queries in rising order.
        num_posts: results per viewer.

    Returns:
        Rows of the corpus, best first, ties in corpus order (which of equals is the last on
        the page is not promised). int64 [Q, num_posts], -1 where there are no more.
    """
    pages = []
    for first in range(0, len(liked), 256):
        part = liked[first : first + 256]
        scores = np.array(retriever.scores(part))
        low, high = np.searchsorted(seen[0], [first, first + len(part)])
        scores[seen[0][low:high] - first, seen[1][low:high]] = -np.inf
        best = np.argpartition(-scores, min(num_posts, scores.shape[1] - 1), axis=1)
        best = np.sort(best[:, :num_posts], axis=1)
        value = np.take_along_axis(scores, best, axis=1)
        best = np.where(np.isneginf(value), -1, best)
        order = np.argsort(-value, axis=1, kind="stable")
        pages.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(pages)


def together(past: Past, corpus: Ids, max_posts: int) -> tuple[Ids, NDArray[np.float32]]:
    """How many viewers liked both of two posts, for the `max_posts` most liked: X^T X.

    Returns:
        The place of each post of the corpus in the other result, -1 = none; the counts, with
        those of single posts on the diagonal. [P], float32 [m, m].
    """
    viewer, post = liked_pairs(past, corpus)
    count = np.bincount(post, minlength=len(corpus))
    kept = np.argsort(-count, kind="stable")[: min(max_posts, np.count_nonzero(count))]
    column = np.full(len(corpus), -1)
    column[kept] = np.arange(num := len(kept))
    inside = column[post] >= 0
    viewer, place = viewer[inside], column[post[inside]]
    start, end = (np.searchsorted(viewer, viewer, side) for side in ("left", "right"))
    names, row = np.unique(viewer, return_inverse=True)
    if (end - start).sum() * _PAIR > len(names) * num * num * _PRODUCT:  # long histories
        gram = torch.zeros(num, num)
        for first in range(0, len(names), 1024):
            mine = (row >= first) & (row < first + 1024)
            liked = torch.zeros(1024, num)
            liked[row[mine] - first, place[mine]] = 1
            gram.addmm_(liked.T, liked)
        return column, gram.numpy()
    counts = np.zeros(num * num, np.float32)
    for first in range(0, len(viewer), 100_000):  # pairs of a part at a time bound the memory
        part = slice(first, first + 100_000)
        other, which = ranges(start[part], end[part])
        np.add.at(counts, place[part][which] * num + place[other], 1)
    return column, counts.reshape(num, num)


def liked_pairs(past: Past, corpus: Ids) -> tuple[Ids, Ids]:
    """Which viewer, numbered from 0, liked which row of the corpus; each once, by viewer."""
    user, post = _likes(past, corpus)
    _, viewer = np.unique(user[post >= 0], return_inverse=True)
    key = np.unique(viewer * len(corpus) + post[post >= 0])
    return key // len(corpus), key % len(corpus)


def _likes(past: Past, corpus: Ids) -> tuple[Ids, Ids]:
    """Viewer and corpus row of each liked post, oldest first; row -1 = not in the corpus."""
    liked = past.did & LIKES != 0
    return past.user_id[liked], find(past.post_id[liked], corpus)

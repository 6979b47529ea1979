"""Transitions and EASE together: what was liked last, and all that was liked.

Axes: Q viewers asked for, H liked posts of each, P posts of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipelines.facts import find
from train.baselines.retrieval import LIKES, Ease, Ids, Transitions
from train.rows import Past, ranges

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of EASE; tried when the blend is fitted
# Likewise of the transitions: window, decay, damping.
TRANSITIONS = ((1, 1.0, 1.0), (5, 0.6, 1.0), (10, 0.6, 1.0), (10, 0.8, 0.0))
_AT = 10  # results that the held-out likes are looked for in
_BATCH = 256  # viewers scored at once


@dataclass(frozen=True)
class Blend:
    """Transitions + weight x EASE, each as a share of its best score for the viewer.

    The shares make one weight fit all viewers: the scores of both grow with what was liked.
    """

    transitions: Transitions
    ease: Ease
    weight: float

    @classmethod
    def fit(
        cls, past: Past, corpus: Ids, num_held: int = 2_000, num_liked: int = 64, seed: int = 0
    ) -> Blend:
        """Choose weight and transitions on likes held out of `past`, then fit on all of it.

        Args:
            past: what may be learned from; nothing else is looked at.
            corpus: sorted ids of all posts.
            num_held: the last like of so many viewers is held out to choose by NDCG@10.
            num_liked: newest likes that are looked at then, as in `scores`, H.
            seed: of the draw of these viewers.
        """
        kept, liked, target = hold_out(past, corpus, num_held, num_liked, seed)
        if not len(target):
            return cls(Transitions.fit(past, corpus), Ease.fit(past, corpus), 1.0)
        ease = Ease.fit(kept, corpus)
        found = {}
        for kind in TRANSITIONS:
            transitions = Transitions.fit(kept, corpus, *kind)
            for weight, gain in _gains(transitions, ease, liked, target).items():
                found[kind, weight] = gain
        kind, weight = max(found, key=lambda tried: found[tried])  # the first of equals
        return cls(Transitions.fit(past, corpus, *kind), Ease.fit(past, corpus), weight)

    def scores(self, liked: Ids) -> NDArray[np.float32]:
        """As `Retriever.scores`."""
        return _share(self.transitions.scores(liked)) + np.float32(self.weight) * _share(
            self.ease.scores(liked)
        )


def hold_out(
    past: Past, corpus: Ids, num_held: int, num_liked: int, seed: int
) -> tuple[Past, Ids, Ids]:
    """Take out the last like of some viewers who liked more than one post.

    Returns:
        The past without these rows, the viewers' earlier likes as `Retriever.scores` takes
        them, and the corpus rows of the likes taken out. Past, [q, H], [q].
    """
    row = find(past.post_id, corpus)
    place = np.flatnonzero((past.did & LIKES != 0) & (row >= 0))
    _, first, num = np.unique(past.user_id[place], return_index=True, return_counts=True)
    several = np.flatnonzero(num > 1)
    drawn = np.random.default_rng(seed).permutation(several)[:num_held]
    last = first[drawn] + num[drawn] - 1
    start = np.maximum(first[drawn], last - num_liked)
    earlier, which = ranges(start, last)
    liked = np.full((len(drawn), num_liked), -1)
    liked[which, earlier - last[which] + num_liked] = row[place[earlier]]
    left = np.ones(len(row), bool)
    left[place[last]] = False
    kept = Past(**{f.name: getattr(past, f.name)[left] for f in fields(past)})
    return kept, liked, row[place[last]]


def _gains(transitions: Transitions, ease: Ease, liked: Ids, target: Ids) -> dict[float, float]:
    """Mean NDCG@10 of the held-out like among posts not liked before, by weight."""
    gains = dict.fromkeys(WEIGHTS, 0.0)
    for first in range(0, len(target), _BATCH):
        part = slice(first, first + _BATCH)
        one, other = _share(transitions.scores(liked[part])), _share(ease.scores(liked[part]))
        query, slot = np.nonzero((liked[part] >= 0) & (liked[part] != target[part, None]))
        for weight in WEIGHTS:
            scores = one + np.float32(weight) * other
            scores[query, liked[part][query, slot]] = -np.inf
            own = np.take_along_axis(scores, target[part, None], axis=1)
            rank = (scores >= own).sum(axis=1)  # of equals the held-out one is the last
            gains[weight] += float((1 / np.log2(rank[rank <= _AT] + 1)).sum()) / len(target)
    return gains


def _share(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores over the viewer's best one, which is 1 unless none is above 0. [Q, P]."""
    best = scores.max(axis=1, keepdims=True)
    return (scores / np.where(best > 0, best, 1)).astype(np.float32)

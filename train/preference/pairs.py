"""Pairs of items and which of the two a stakeholder prefers.

Two distinct items are drawn uniformly; the first is preferred if its utility less the second's,
plus N(0, 0.05), is above 0. Which items and which noise a seed draws does not depend on the
stakeholder, so one draw serves all of them, and fewer pairs of a seed are the first of its more.

Axes: S seeds, K stakeholders, N pairs, C items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOISE = 0.05  # sd of what is added to a difference of utilities
EVAL_SHARE = 0.2  # of the pairs, kept to test on


@dataclass(frozen=True)
class Pairs:
    """Pairs of several seeds, and what each stakeholder says of them.

    Attributes:
        first, second: items. int64 [S, N].
        prefers_first: bool [S, K, N].
    """

    first: Ints
    second: Ints
    prefers_first: NDArray[np.bool_]

    def take(self, rows: Ints) -> Pairs:
        """These pairs of each seed. int64 [S, n]."""
        picked = np.take_along_axis(self.prefers_first, rows[:, None, :], axis=2)
        first, second = (np.take_along_axis(at, rows, axis=1) for at in (self.first, self.second))
        return Pairs(first, second, picked)


@lru_cache(64)
def _drawn(num_items: int, num_pairs: int, seed: int) -> tuple[Ints, Floats]:
    """Items [N, 2] and noise [N] of a seed: for each pair two items, then one normal."""
    rng = np.random.default_rng(seed)
    items, noise = np.empty((num_pairs, 2), np.int64), np.empty(num_pairs)
    for at in range(num_pairs):
        items[at] = rng.choice(num_items, size=2, replace=False)
        noise[at] = rng.normal(0, NOISE)
    return items, noise


def sample(utility: Floats, num_pairs: int, seeds: Sequence[int]) -> Pairs:
    """Draw pairs and label them.

    Args:
        utility: of each item to each stakeholder, [K, C], or by seed [S, K, C].
        num_pairs: N.
        seeds: one a draw, S.
    """
    num_items = utility.shape[-1]
    drawn = [_drawn(num_items, num_pairs, seed) for seed in seeds]
    items = np.stack([each[0] for each in drawn])
    noise = np.stack([each[1] for each in drawn])
    by_seed = np.broadcast_to(utility, (len(seeds), *utility.shape[-2:]))
    one, two = items[..., 0], items[..., 1]
    first, second = (np.take_along_axis(by_seed, at[:, None, :], axis=2) for at in (one, two))
    return Pairs(one, two, first - second + noise[:, None, :] > 0)


def split(pairs: Pairs, seeds: Sequence[int]) -> tuple[Pairs, Pairs]:
    """Pairs to learn from, and pairs to test on: the first fifth of a permutation by seed."""
    num = pairs.first.shape[1]
    order = np.stack([np.random.default_rng(seed).permutation(num) for seed in seeds])
    num_eval = int(EVAL_SHARE * num)
    return pairs.take(order[:, num_eval:]), pairs.take(order[:, :num_eval])

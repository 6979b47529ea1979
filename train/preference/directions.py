"""Which cosine foretells who gains? Random (target, hidden) pairs in place of a handful of named.

Targets are drawn at random; a hidden one is its target turned by a random angle, so that all
cosines from -1 to 1 are there. Each is target once and hidden once: the two directions of a pair
share everything but the order, and are one cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.preference.goodhart import COSINES, SEEDS, UNIT, changes, cosines, learn_all
from train.preference.proportions import wilson
from train.preference.selection import WARM, at
from train.preference.space import Space, unit_max
from train.preference.training import FitConfig

Floats = NDArray[np.float64]

BINS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)  # of |cosine|
TEMPERATURES = (0.1, *WARM)
SELECTIONS = ("top 10", *map(at, TEMPERATURES), UNIT)


def with_random_stakeholders(space: Space, num_pairs: int, seed: int) -> Space:
    """The same items with 2 num_pairs stakeholders: targets, then each one's hidden partner.

    Weights are over their largest, as those of real stakeholders are. Features that no item has
    weigh nothing.
    """
    rng = np.random.default_rng(seed)
    used = np.abs(space.features).max(axis=0) > 0
    target, other = (_unit(rng.normal(size=(num_pairs, used.sum()))) for _ in range(2))
    cosine = rng.uniform(-1, 1, (num_pairs, 1))
    across = _unit(other - (other * target).sum(axis=1, keepdims=True) * target)
    hidden = cosine * target + np.sqrt(1 - cosine**2) * across
    weights = np.zeros((2 * num_pairs, space.features.shape[1]))
    weights[:, used] = np.stack([unit_max(w) for w in np.concatenate([target, hidden])])
    names = tuple(f"{kind} {at}" for kind in ("target", "hidden") for at in range(num_pairs))
    worth = np.clip(weights @ space.features.T, 0, 1)
    return replace(space, stakeholders=names, weights=weights, worth=worth)


def predictors(
    space: Space,
    num_pairs: int = 200,
    seed: int = 0,
    seeds: Sequence[int] = SEEDS,
    fit: FitConfig | None = None,
) -> dict[str, Any]:
    """How often each cosine has the sign of what came, over both directions of random pairs.

    Returns:
        selections: of each, by cosine a share with interval; `majority`, the share that the more
        frequent sign has; and by cosine and bin of its absolute value the same.
    """
    drawn = with_random_stakeholders(space, num_pairs, seed)
    learned = learn_all(drawn, seeds, fit)
    by_cosine, by_selection = cosines(drawn, learned), changes(drawn, learned, False, TEMPERATURES)
    one, two = np.arange(num_pairs), np.arange(num_pairs) + num_pairs
    row, column = np.concatenate([one, two]), np.concatenate([two, one])
    cluster = np.concatenate([one, one])
    found: dict[str, Any] = {}
    for selection in SELECTIONS:
        gained = by_selection[selection][row, column] > 0
        majority = gained if gained.mean() >= 0.5 else ~gained
        found[selection] = {"majority": wilson(majority, cluster).as_dict(), "bins": {}}
        for name in COSINES:
            value = by_cosine[name][row, column]
            right = (value > 0) == gained
            found[selection][name] = wilson(right, cluster).as_dict()
            found[selection]["bins"][name] = _by_bin(np.abs(value), right, cluster)
    return {"pairs": num_pairs, "ordered_pairs": 2 * num_pairs, "selections": found}


def _by_bin(size: Floats, right: NDArray[np.bool_], cluster: NDArray) -> dict[str, Any]:
    found = {}
    for low, high in pairwise(BINS):
        inside = (size >= low) & ((size < high) | (high == BINS[-1]))
        found[f"{low:g} to {high:g}"] = wilson(right[inside], cluster[inside]).as_dict()
    return found


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

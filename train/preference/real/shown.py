"""Pairs of things that one person took and did not take, and how often a score tells which.

Axes: N pairs, R rows, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.intervals import bootstrap_interval
from train.preference.pairs import Pairs
from train.preference.space import Space
from train.preference.training import FitConfig, fit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM_ROUNDS = 200  # of the intervals over people


@dataclass(frozen=True)
class ShownPairs:
    """Pairs of rows, the first shown (or rated) before the second.

    Attributes:
        first, second: rows. int64 [N].
        prefers_first: bool [N].
        person: whose pair. int64 [N].
    """

    first: Ints
    second: Ints
    prefers_first: NDArray[np.bool_]
    person: Ints

    def __len__(self) -> int:
        return len(self.first)


def pairs_within(group: Ints, value: Floats, person: Ints, most: int, seed: int = 0) -> ShownPairs:
    """Pairs of rows of one group whose values differ; the higher one is preferred.

    Args:
        group: rows that may be compared, such as those of one session; rows are in their order
            within it. [R].
        value: [R].
        person: of each row. [R].
        most: pairs of a group, drawn if there are more.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order], append=-1)) + 1
    firsts, seconds = [], []
    for rows in np.split(order, ends[:-1]):
        if len(rows) < 2 or (value[rows] == value[rows[0]]).all():
            continue
        a, b = np.triu_indices(len(rows), k=1)
        differ = np.flatnonzero(value[rows[a]] != value[rows[b]])
        if len(differ) > most:
            differ = np.sort(rng.choice(differ, most, replace=False))
        firsts.append(rows[a[differ]])
        seconds.append(rows[b[differ]])
    empty = np.empty(0, np.int64)
    first, second = (np.concatenate([empty, *parts]) for parts in (firsts, seconds))
    return ShownPairs(first, second, value[first] > value[second], person[first])


def learn_from(features: Floats, pairs: ShownPairs, config: FitConfig | None = None) -> Floats:
    """Bradley-Terry weights of all people's pairs together; features are brought to unit spread.

    Returns:
        float64 [D], for features as given.
    """
    spread = np.maximum(features.std(axis=0), 1e-9)
    space = Space.of(
        "shown",
        features / spread,
        np.zeros(len(features), np.int64),
        {"people": np.zeros(features.shape[1])},
        tuple(map(str, range(features.shape[1]))),
        start=np.zeros(features.shape[1]),
    )
    told = Pairs(pairs.first[None], pairs.second[None], pairs.prefers_first[None, None])
    return fit(space, told, config or FitConfig(num_steps=600, batch_size=1_024))[0, 0] / spread


def accuracies(pairs: ShownPairs, scores: Mapping[str, Floats], majority: bool) -> dict[str, Any]:
    """How often each score puts the preferred row first; a tie counts half.

    Args:
        pairs: to tell.
        scores: name -> of each row. [R].
        majority: what most training pairs said: the earlier row is preferred.

    Returns:
        Of each, and of always saying what the majority did: accuracy with its 95 % interval over
        people.
    """
    told = {"majority": _same(pairs, majority)}
    told |= {name: told_right(pairs, score) for name, score in scores.items()}
    return {name: _with_interval(right, pairs.person) for name, right in told.items()}


def told_right(pairs: ShownPairs, score: Floats) -> Floats:
    """1 where the score puts the preferred row first, 0.5 at a tie. [N]."""
    gap = score[pairs.first] - score[pairs.second]
    return np.where(gap == 0, 0.5, (gap > 0) == pairs.prefers_first).astype(np.float64)


def strongest(pairs: ShownPairs, scores: Mapping[str, Floats]) -> str:
    """The score that tells most of these pairs."""
    return max(scores, key=lambda name: float(told_right(pairs, scores[name]).mean()))


def advantages(
    pairs: ShownPairs, score: Floats, rivals: Mapping[str, Floats], majority: bool
) -> dict[str, Any]:
    """How much more often a score is right than each rival and the majority, on the same pairs.

    Returns:
        Of each the difference of accuracies with its 95 % interval over people.
    """
    ours = told_right(pairs, score)
    told = {"majority": _same(pairs, majority)}
    told |= {name: told_right(pairs, rival) for name, rival in rivals.items()}
    return {name: _with_interval(ours - theirs, pairs.person) for name, theirs in told.items()}


def _same(pairs: ShownPairs, majority: bool) -> Floats:
    return np.where(pairs.prefers_first == majority, 1.0, 0.0)


def _with_interval(right: Floats, person: Ints) -> dict[str, float]:
    low, high = bootstrap_interval(
        person, lambda w: float(w @ right / w.sum()) if w.sum() else float("nan"), NUM_ROUNDS
    )
    return {"accuracy": float(right.mean()), "low": low, "high": high}

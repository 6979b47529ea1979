"""What a feed would show by learned scores, and what it is worth to each stakeholder.

Three ways that published figures use: soft (a softmax over the pool), hard (the ten best), and a
sweep over how much topics already shown are held back.

Axes: R score vectors, C items, K stakeholders, L weights of diversity, T temperatures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from train.preference.space import Space

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOP = 10  # items of a slate
TEMPERATURES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
WARM = tuple(t for t in TEMPERATURES if t >= 1)  # where published claims are made
DELTAS = tuple(np.linspace(0, 1, 21).tolist())  # weights of diversity
_AT_ONCE = 256  # score vectors whose slates are chosen together


def at(temperature: float) -> str:
    """The soft selection's name in results."""
    return f"T={temperature:g}"


def soft(scores: Floats, utility: Floats, temperature: float) -> Floats:
    """sum_c softmax(score / T)_c U_k(c): the worth of an item drawn by its score.

    Args:
        scores: [..., C].
        utility: [K, C].
        temperature: T.

    Returns:
        [..., K].
    """
    logits = scores / temperature
    share = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return share / share.sum(axis=-1, keepdims=True) @ utility.T


def hard(scores: Floats, utility: Floats, num: int = TOP) -> Floats:
    """Mean worth of the `num` best items; of equal scores the first. [..., C] -> [..., K]."""
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :num]
    return np.moveaxis(utility[:, best], 0, -1).mean(axis=-2)


def slates(scores: Floats, topic: Ints, deltas: Sequence[float] = DELTAS, num: int = TOP) -> Ints:
    """Slates chosen one item at a time by (1 - delta) score + delta / (1 + shown of its topic).

    Of equal values the first item is taken. Only the `num` best of each topic can be chosen, so
    only they are looked at.

    Args:
        scores: [R, C].
        topic: of each item. [C].
        deltas: 0 = the best by score. [L].
        num: items of a slate.

    Returns:
        Items in the order chosen, int64 [R, L, num].

    Raises:
        ValueError: fewer items than a slate has.
    """
    if scores.shape[1] < num:
        raise ValueError(f"a slate of {num} items from a pool of {scores.shape[1]}")
    weights, even = np.asarray(deltas, np.float64), np.zeros((1, scores.shape[1]))
    chosen = np.empty((len(scores), len(weights), num), np.int64)
    chosen[:, weights == 1] = _slates(even, topic, weights[weights == 1], num)  # scores are void
    for at in range(0, len(scores), _AT_ONCE):
        rows = slice(at, at + _AT_ONCE)
        chosen[rows, weights < 1] = _slates(scores[rows], topic, weights[weights < 1], num)
    return chosen


def _slates(scores: Floats, topic: Ints, deltas: Floats, num: int) -> Ints:
    rows = np.arange(len(scores))
    items = _eligible(scores, topic, num)
    value, kind = np.take_along_axis(scores, items, axis=1), topic[items]
    shown = np.zeros((len(scores), len(deltas), int(topic.max()) + 1))
    taken = np.zeros((len(scores), len(deltas), items.shape[1]), bool)
    chosen = np.empty((len(scores), len(deltas), num), np.int64)
    base = (1 - deltas)[None, :, None] * value[:, None, :]
    for at in range(num):
        held = np.take_along_axis(shown, np.broadcast_to(kind[:, None, :], taken.shape), axis=2)
        total = np.where(taken, -np.inf, base + deltas[None, :, None] / (held + 1))
        best = total.argmax(axis=2)
        np.put_along_axis(taken, best[..., None], True, axis=2)
        chosen[:, :, at] = items[rows[:, None], best]
        of = topic[chosen[:, :, at]]
        np.put_along_axis(shown, of[..., None], 1 + np.take_along_axis(shown, of[..., None], 2), 2)
    return chosen


def _eligible(scores: Floats, topic: Ints, num: int) -> Ints:
    """Items that can be chosen, ascending, so that the first of equals stays first. [R, c]."""
    groups = [np.flatnonzero(topic == each) for each in np.unique(topic)]
    best = [own[np.argsort(-scores[:, own], axis=1, kind="stable")[:, :num]] for own in groups]
    return np.sort(np.concatenate(best, axis=1), axis=1)


def frontier(space: Space, weights: Floats) -> Floats:
    """Worth to each stakeholder, summed over the slate, at each weight of diversity.

    Args:
        space: whose items, topics and true utilities.
        weights: learned, [..., D].

    Returns:
        [..., L, K], L = len(DELTAS).
    """
    scores = weights.reshape(-1, weights.shape[-1]) @ space.features.T
    picked = slates(scores, space.topic)
    worth = np.moveaxis(space.utility[:, picked].sum(axis=-1), 0, -1)  # [R, L, K]
    return worth.reshape(*weights.shape[:-1], *worth.shape[1:])


def sweep(space: Space, weights: Floats) -> Floats:
    """Mean of the frontier over the weights of diversity. [..., D] -> [..., K]."""
    return frontier(space, weights).mean(axis=-2)

"""Which points of a frontier are worth having, and what leaving a stakeholder out costs.

Axes: P points, K stakeholders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.preference.selection import frontier, slates
from train.preference.space import Space

Floats = NDArray[np.float64]

_SAME = 1e-9  # points nearer than this, relative to the largest value, are one


def pareto(points: Floats) -> NDArray[np.bool_]:
    """Points that no other beats: none is as good for all and better for one. bool [P].

    Of points that are equal up to rounding the first stays alone: the same slate in another order
    must not count as another choice, let alone beat itself in the last bit of a sum.
    """
    unit = _SAME * max(1.0, float(np.abs(points).max(initial=0)))
    exact = np.round(points / unit)
    least = (exact[:, None] >= exact[None]).all(axis=2)  # [P, P]: row is no worse than column
    beaten = (least & ~least.T).any(axis=0)
    again = np.triu(least & least.T, k=1).any(axis=0)
    return np.asarray(~beaten & ~again)


def hypervolume(points: Floats, reference: Floats) -> float:
    """Exact volume that points dominate, above a reference: 0 for points not above it.

    Each point adds what it alone dominates beside those that are better by the last stakeholder:
    its own box less what they dominate of it, which has one stakeholder fewer (While et al. 2012,
    WFG). In hundreds of points of five stakeholders a second.

    Args:
        points: [P, K].
        reference: no better than any point that is to count. [K].
    """
    above = points[(points > reference).all(axis=1)]
    if not len(above):
        return 0.0
    if points.shape[1] == 1:
        return float(above.max() - reference[0])
    if points.shape[1] == 2:
        above = above[np.argsort(-above[:, 0], kind="stable")]
        width = above[:, 0] - np.append(above[1:, 0], reference[0])
        return float(width @ (np.maximum.accumulate(above[:, 1]) - reference[1]))
    above = above[pareto(above)]
    above = above[np.argsort(-above[:, -1], kind="stable")]
    volume = 0.0
    for at, point in enumerate(above):
        alone = float(np.prod(point[:-1] - reference[:-1]))
        shared = hypervolume(np.minimum(above[:at, :-1], point[:-1]), reference[:-1])
        volume += float(point[-1] - reference[-1]) * (alone - shared)
    return volume


def geometric_regret(space: Space, scorer: int) -> dict[str, dict[str, Any]]:
    """What each stakeholder loses on average when the others choose from one scorer's frontier.

    The others keep the points that are Pareto for them; regret is the best point for the one left
    out less the mean of those.

    Args:
        space: of the stakeholders.
        scorer: whose true weights the frontier is made by.

    Returns:
        For each one left out: regret, kept (points), points, and `scorer`: whether it is the
        scorer, whose regret says little.
    """
    points = frontier(space, space.weights[scorer])
    found = {}
    for hidden, name in enumerate(space.stakeholders):
        kept = pareto(np.delete(points, hidden, axis=1))
        found[name] = {
            "regret": float(points[:, hidden].max() - points[kept, hidden].mean()),
            "kept": int(kept.sum()),
            "points": len(points),
            "scorer": hidden == scorer,
        }
    return found


def regret_as_published(space: Space, scorer: int) -> dict[str, float]:
    """The same regrets as the published script's sums make them, without any tolerance.

    W F' once for all items, NumPy's sum over each slate's items in the order they were chosen, and
    a point counts unless another is as good for all and better for one to the last bit: of slates
    of the same items some count again and some beat each other, by rounding alone.
    """
    utility = space.utility
    slate = slates((space.weights[scorer] @ space.features.T)[None], space.topic)[0]
    points = np.array([[of[items].sum() for of in utility] for items in slate])
    found = {}
    for hidden, name in enumerate(space.stakeholders):
        others = np.delete(points, hidden, axis=1)
        as_good = (others[:, None] >= others[None]).all(axis=2)
        beaten = (as_good & (others[:, None] > others[None]).any(axis=2)).any(axis=0)
        found[name] = float(points[:, hidden].max() - points[~beaten, hidden].mean())
    return found


def regret_interval(space: Space, scorer: int) -> dict[str, tuple[float, float]]:
    """Least and greatest geometric regret that rounding can make of equal points.

    Slates with the same items in another order are points that differ in the last bit, if at all.
    An exact comparison keeps one of them or all, by chance; these are the regrets when each group
    of equals counts once or as often as it is there, whichever is lower or higher.
    """
    points = frontier(space, space.weights[scorer])
    found = {}
    for hidden, name in enumerate(space.stakeholders):
        others = np.delete(points, hidden, axis=1)
        kept = pareto(others)
        scale = _SAME * max(1.0, float(np.abs(others).max()))
        equal = np.abs(others[:, None] - others[None, kept]).max(axis=2) <= scale  # [P, kept]
        value, often = points[kept, hidden], equal.sum(axis=0)
        best = points[:, hidden].max()
        ends = [best - _extreme(value, often, sign) for sign in (1, -1)]
        found[name] = (min(ends), max(ends))
    return found


def _extreme(value: Floats, often: NDArray[np.int64], sign: int) -> float:
    """The largest (sign 1) or smallest mean when each value counts 1 to `often` times."""
    order = np.argsort(-sign * value)
    means = []
    for cut in range(len(value) + 1):
        times = np.ones(len(value))
        times[order[:cut]] = often[order[:cut]]
        means.append(float(times @ value / times.sum()))
    return max(means) if sign > 0 else min(means)

"""How many pairs of a stakeholder who was left out win back what leaving them out cost.

The scorer is the sum of the others' true weights and the learned vector, over K. As published,
the learned vector keeps its length, which grows with the steps of training: then winning back
more than all there is to win means only that it has drowned the others out. So the same is
measured with the learned vector brought to the length of the true one, against what the true one
would win back.

Axes: S seeds, N budgets, K stakeholders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.preference.selection import frontier
from train.preference.space import Space
from train.preference.training import FitConfig, learn

Floats = NDArray[np.float64]

LEVELS = (0.5, 0.8)  # shares won back whose price in pairs is asked for
PUBLISHED_DIVISOR = 3  # of the sum of weights, whatever K is


def curves(
    space: Space,
    budgets: Sequence[int],
    seeds: Sequence[int],
    fit: FitConfig | None = None,
) -> dict[str, dict[str, Any]]:
    """Regret of each stakeholder left out, by how many of its pairs were learned from.

    Returns:
        name -> pairs (0 first), published and norm_matched (mean regret at each), oracle (regret
        with the true vector), and of both kinds of curve the pairs that 50 and 80 % cost; None =
        more than the largest budget. Shares are of the regret at 0 pairs, for norm_matched of
        what the true vector wins back.
    """
    learned = {num: learn(space, space.utility, num, seeds, fit)[0] for num in budgets}
    full, num_all = frontier(space, space.weights.mean(axis=0)), len(space.stakeholders)
    found: dict[str, dict[str, Any]] = {}
    for hidden, name in enumerate(space.stakeholders):
        others, best = np.delete(space.weights, hidden, axis=0), full[:, hidden].max()

        def regret(weights: Floats, at: int = hidden, best: float = best) -> float:
            return float((best - frontier(space, weights)[..., at].mean(axis=-1)).mean())

        start = regret(others.mean(axis=0))
        own = {num: weights[:, hidden] for num, weights in learned.items()}
        long = np.linalg.norm(space.weights[hidden])
        even = {n: w * (long / np.linalg.norm(w, axis=-1, keepdims=True)) for n, w in own.items()}
        whole = others.sum(axis=0)
        published = [start, *(regret((whole + w) / PUBLISHED_DIVISOR) for w in own.values())]
        matched = [start, *(regret((whole + w) / num_all) for w in even.values())]
        oracle = regret(space.weights.mean(axis=0))
        pairs = [0, *budgets]
        found[name] = {
            "pairs": pairs,
            "published": published,
            "norm_matched": matched,
            "oracle": oracle,
            **prices(pairs, published, 0.0, "published"),
            **prices(pairs, matched, oracle, "norm_matched"),
        }
    return found


def prices(
    pairs: Sequence[int], regrets: Sequence[float], floor: float, name: str
) -> dict[str, float | None]:
    """Pairs at which each of LEVELS is won back, by linear interpolation.

    Args:
        pairs: budgets, ascending.
        regrets: at each; the first is what there is to win back.
        floor: regret when all is won back.
        name: of the curve; keys are `<name>_n50` and `<name>_n80`.

    Returns:
        None where no budget reaches a level: it costs more than the largest, or there is nothing
        to win back.
    """
    gap = regrets[0] - floor
    if gap <= 0:
        return {f"{name}_n{level:.0%}".rstrip("%"): None for level in LEVELS}
    share = 1 - (np.asarray(regrets) - floor) / gap
    return {
        f"{name}_n{level:.0%}".rstrip("%"): _crossing(np.asarray(pairs, float), share, level)
        for level in LEVELS
    }


def censored_median(values: Sequence[float | None]) -> float | None:
    """Median where None is known to be above all numbers; None = the median is one of those.

    Half-way between a number and a None nothing is known but the lower end, which is returned.
    """
    known = sorted(np.inf if value is None else value for value in values)
    low, high = known[(len(known) - 1) // 2], known[len(known) // 2]
    middle = low if np.isinf(high) else (low + high) / 2
    return None if np.isinf(middle) else float(middle)


def medians(found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each price over stakeholders: with those that cost more, and as if they were not there."""
    names = [key for key in next(iter(found.values())) if key.endswith(("_n50", "_n80"))]
    rows = {}
    for name in names:
        values = [of[name] for of in found.values()]
        reached = [value for value in values if value is not None]
        rows[name] = {
            "median": censored_median(values),
            "median_of_those_reached": float(np.median(reached)) if reached else None,
            "reached": len(reached),
            "of": len(values),
        }
    return rows


def _crossing(pairs: Floats, share: Floats, level: float) -> float | None:
    for at in range(1, len(share)):
        if share[at] >= level:
            part = (level - share[at - 1]) / (share[at] - share[at - 1])
            return float(pairs[at - 1] + part * (pairs[at] - pairs[at - 1]))
    return None

"""Who gains when one stakeholder's weights are learned from more pairs.

The claim: it gains exactly if the cosine of the two is positive. Three cosines are compared: raw
(of the true weights), trained (of learned ones), and covariance, w_t' S w_h / sqrt(w_t' S w_t
w_h' S w_h) with the pool's covariance S, in which nothing of the hidden one is learned. The last
is what theory asks for: of small tilts dU_h = Cov(score, U_h) / T.

Axes: S seeds, K stakeholders, D features, C items. Matrices [K, K]: row target, column hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.preference.selection import TEMPERATURES, at, hard, soft, sweep
from train.preference.space import Space, cosine
from train.preference.training import FitConfig, learn, perturbed

Floats = NDArray[np.float64]

SEEDS = (42, 142, 242, 342, 442)
FEW, MANY = 25, 2_000  # pairs drawn, a fifth of them not learned from
NUM_TRAINED = 2_500  # pairs of the weights whose cosine is the trained one
SIGMA = 0.3  # how far off what a target says is
STRONG = 0.2  # |cosine| from which published counts begin
UNIT = "T=1, unit scores"
COSINES = ("raw", "trained", "covariance", "covariance_true")


@dataclass(frozen=True)
class Learned:
    """Weights learned of every stakeholder.

    Attributes:
        few, many: from FEW and MANY pairs labelled by perturbed weights. [S, K, D].
        exact: from NUM_TRAINED pairs labelled by the true ones. [S, K, D].
        accuracy: of `exact` on held-out pairs. [S, K].
    """

    few: Floats
    many: Floats
    exact: Floats
    accuracy: Floats


def learn_all(space: Space, seeds: Sequence[int] = SEEDS, fit: FitConfig | None = None) -> Learned:
    """Learn each stakeholder's weights as the published protocol does."""
    said = perturbed(space.weights, SIGMA, seeds) @ space.features.T
    few, many = (learn(space, said, num, seeds, fit)[0] for num in (FEW, MANY))
    exact, right = learn(space, space.utility, NUM_TRAINED, seeds, fit)
    return Learned(few, many, exact, right)


def cosines(space: Space, learned: Learned) -> dict[str, Floats]:
    """By name of COSINES: [K, K]; `covariance_true` takes the target's true weights too.

    `covariance` takes the target as it was learned from MANY pairs, mean over seeds.
    """
    true, exact = space.weights, learned.exact
    spread = np.cov(space.features.T)
    return {
        "raw": cosine(true[:, None], true[None]),
        "trained": cosine(exact[:, :, None], exact[:, None]).mean(axis=0),
        "covariance": _under(spread, learned.many.mean(axis=0), true),
        "covariance_true": _under(spread, true, true),
    }


def changes(
    space: Space,
    learned: Learned,
    with_sweep: bool = True,
    temperatures: Sequence[float] = TEMPERATURES,
) -> dict[str, Floats]:
    """What more pairs of the target change for the hidden one, by selection: [K, K], over seeds.

    `UNIT` scores have standard deviation 1 over the pool: then no score is sharper for having been
    trained for longer.
    """
    few, many = (w @ space.features.T for w in (learned.few, learned.many))
    utility = space.utility
    found = {"top 10": hard(many, utility) - hard(few, utility)}
    if with_sweep:
        found["sweep"] = sweep(space, learned.many) - sweep(space, learned.few)
    for t in temperatures:
        found[at(t)] = soft(many, utility, t) - soft(few, utility, t)
    found[UNIT] = soft(unit_spread(many), utility, 1.0) - soft(unit_spread(few), utility, 1.0)
    return {name: value.mean(axis=0) for name, value in found.items()}


def levels(space: Space, learned: Learned) -> list[dict[str, Any]]:
    """Worth of the sweep to each hidden one by FEW and by MANY pairs of the target, over seeds.

    Returns:
        A row each target and hidden one, bystanders among these: `raw` cosine, `few` and `many`.
    """
    wide = space.with_bystanders()
    raw = cosine(space.weights[:, None], wide.weights[None])
    few, many = (sweep(wide, w).mean(axis=0) for w in (learned.few, learned.many))  # [K, K + ...]
    return [
        {"target": target, "hidden": hidden}
        | {"raw": float(raw[t, h]), "few": float(few[t, h]), "many": float(many[t, h])}
        for t, target in enumerate(space.stakeholders)
        for h, hidden in enumerate(wide.stakeholders)
        if hidden != target
    ]


def ordered_pairs(
    space: Space, by_cosine: dict[str, Floats], by_selection: dict[str, Floats]
) -> Iterator[dict[str, Any]]:
    """A row each (target, hidden): its cosines and changes."""
    names = space.stakeholders
    for t, target in enumerate(names):
        for h, hidden in enumerate(names):
            if t != h:
                yield {
                    "target": target,
                    "hidden": hidden,
                    "cosine": {name: float(of[t, h]) for name, of in by_cosine.items()},
                    "change": {name: float(of[t, h]) for name, of in by_selection.items()},
                }


def matches(rows: Sequence[dict[str, Any]], cosine_name: str, selection: str) -> tuple[int, int]:
    """How often the cosine has the sign of the change, among strong pairs: (matches, pairs).

    Strong is by the trained cosine, as published, whichever cosine is asked.
    """
    strong = [row for row in rows if abs(row["cosine"]["trained"]) > STRONG]
    same = [row["cosine"][cosine_name] * row["change"][selection] > 0 for row in strong]
    return sum(same), len(same)


def _under(spread: Floats, a: Floats, b: Floats) -> Floats:
    """Cosines under a covariance. [K, D] and [K, D] -> [K, K]."""
    inner = a @ spread @ b.T
    norms = [np.sqrt(np.einsum("kd,de,ke->k", w, spread, w)) for w in (a, b)]
    return inner / norms[0][:, None] / norms[1][None]


def unit_spread(scores: Floats) -> Floats:
    """Scores with standard deviation 1 over the pool. [..., C]."""
    return scores / scores.std(axis=-1, keepdims=True)

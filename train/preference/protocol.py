"""Published runs repeated figure by figure: the made-up pool, and audits of weight sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.preference.alignment import closed_form, flips_at, stakeholders, vector
from train.preference.goodhart import SIGMA
from train.preference.selection import sweep
from train.preference.space import Space, cosine
from train.preference.stakeholders.synthetic import action_weights, space
from train.preference.training import FitConfig, learn, perturbed

SEED = 42
CURVE_SEEDS = tuple(42 + 1_000 * i + 100 * j for i in range(5) for j in range(5))
CURVE = (25, 100, 2_000)  # pairs
TARGET_CURVE = (25, 100, 500, 2_000)
_PAIRS = ((0, 1), (0, 2), (1, 2))
# Weights of the platform as the frontier analysis has them; negative actions count in its favour.
FRONTIER_PLATFORM = {
    "favorite": 1.0,
    "reply": 1.2,
    "repost": 1.5,
    "photo_expand": 0.3,
    "click": 0.5,
    "profile_click": 0.6,
    "vqv": 0.4,
    "share": 1.3,
    "share_via_dm": 1.4,
    "dwell": 0.2,
    "share_via_copy_link": 1.2,
    "quote": 1.3,
    "quoted_click": 0.4,
    "follow_author": 1.0,
    "not_interested": 0.1,
    "block_author": 0.1,
    "mute_author": 0.1,
    "report": 0.2,
}


def synthetic_protocol(curve_seeds: Sequence[int] = CURVE_SEEDS) -> dict[str, Any]:
    """2,500 pairs of seed 42, and utilities by pairs, from both starts.

    Returns:
        accuracy by stakeholder; cosine by pair, of true and of learned weights; utility by start,
        pairs and stakeholder (target user, sweep).
    """
    pool = space()
    names = pool.stakeholders
    weights, right = learn(pool, pool.utility, 2_500, (SEED,))
    pairs = {f"{names[a]} / {names[b]}": (a, b) for a, b in _PAIRS}
    return {
        "accuracy": dict(zip(names, right[0], strict=True)),
        "cosine_true": {
            key: float(cosine(pool.weights[a], pool.weights[b])) for key, (a, b) in pairs.items()
        },
        "cosine_learned": {
            key: float(cosine(weights[0, a], weights[0, b])) for key, (a, b) in pairs.items()
        },
        "utility": {
            start: {str(num): _utility(of, num, curve_seeds) for num in CURVE}
            for start, of in (("given", pool), ("neutral", space(neutral=True)))
        },
    }


def target_curve(
    space: Space, seeds: Sequence[int] = CURVE_SEEDS, fit: FitConfig | None = None
) -> dict[str, Any]:
    """Utility (sweep) to each stakeholder by pairs of the first one, who says its weights wrongly.

    Returns:
        pairs -> by stakeholder the utility, and `accuracy` on held-out pairs; means over seeds.
    """
    said = perturbed(space.weights, SIGMA, seeds)[:, :1] @ space.features.T
    found = {}
    for num in TARGET_CURVE:
        weights, right = learn(space, said, num, seeds, fit, labellers=[0])
        worth = sweep(space, weights[:, 0]).mean(axis=0)
        found[str(num)] = {
            **dict(zip(space.stakeholders, worth, strict=True)),
            "accuracy": right.mean(),
        }
    return found


def audits() -> dict[str, Any]:
    """The published sweep and scenarios in closed form, and audits of weight sets by name."""
    grid = np.arange(0, 2.0001, 0.05)
    wanted = stakeholders(("user", "society"))
    scenarios = {
        "all actions +1": action_weights(-1.0, 1.0),
        "negatives at half weight": action_weights(-0.5, 1.0),
        "alpha 0.3": action_weights(0.3),
        "alpha 0.1, neutral 0.5": action_weights(0.1, 0.5),
        "alpha 0.3, neutral 0.5": action_weights(0.3, 0.5),
        "alpha 1": action_weights(1.0),
        "alpha 2": action_weights(2.0),
    }
    platform = vector(FRONTIER_PLATFORM, "the frontier analysis")
    return {
        "sweep": {f"{alpha:.2f}": closed_form(float(alpha), 4.0) for alpha in grid},
        "scenarios": {
            name: {who: float(cosine(weights, of)) for who, of in wanted.items()}
            for name, weights in scenarios.items()
        },
        "flips_at": {
            f"{alpha:g}": flips_at(action_weights(0.0), action_weights(alpha))
            for alpha in (0.3, 1.0, 4.0)
        },
        "flips_at_neutral_half": flips_at(action_weights(0.0, 0.5), action_weights(4.0)),
        "frontier_platform": {
            "alpha 4": float(cosine(platform, action_weights(4.0))),
            "alpha 1": float(cosine(platform, action_weights(1.0))),
        },
    }


def _utility(pool: Space, num: int, seeds: Sequence[int]) -> dict[str, float]:
    weights = learn(pool, pool.utility[:1], num, seeds, labellers=[0])[0][:, 0]
    return dict(zip(pool.stakeholders, sweep(pool, weights).mean(axis=0), strict=True))

"""Pairs or steps: which of them makes a hidden stakeholder gain.

The published protocol trains for 50 epochs, so more pairs are also more optimiser steps: 25 pairs
take 50 steps, 2,000 take 1,250. Here each is varied with the other held fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.preference.goodhart import FEW, MANY, SEEDS, SIGMA, unit_spread
from train.preference.selection import soft
from train.preference.space import Space
from train.preference.training import FitConfig, learn, perturbed

STEPS = (50, 1_250)  # of FEW and MANY pairs in 50 epochs


def decouple(
    space: Space,
    target: str,
    hidden: str,
    pairs: Sequence[int] = (FEW, 100, 500, MANY),
    steps: Sequence[int] = (STEPS[0], 250, STEPS[1]),
    seeds: Sequence[int] = SEEDS,
    fit: FitConfig | None = None,
) -> dict[str, Any]:
    """What the hidden stakeholder gets (soft selection, T = 1) by pairs and by steps.

    Returns:
        cells: a row each (pairs, steps) with `value` of raw scores, `unit_value` of scores with
        standard deviation 1, and `norm` of the learned weights; and, of the change that both
        together make, the share that steps alone and pairs alone make.
    """
    t, h = space.of_stakeholder(target), space.of_stakeholder(hidden)
    said = perturbed(space.weights, SIGMA, seeds)[:, t : t + 1] @ space.features.T
    cells = []
    for num in pairs:
        for most in steps:
            own = (fit or FitConfig()).model_copy(update={"num_steps": most})
            weights = learn(space, said, num, seeds, own, labellers=[t])[0][:, 0]
            scores = weights @ space.features.T
            value, even = (
                soft(x, space.utility, 1.0)[:, h].mean() for x in (scores, unit_spread(scores))
            )
            norm = np.linalg.norm(weights, axis=-1).mean()
            cells.append(
                {"pairs": num, "steps": most, "value": float(value), "unit_value": float(even)}
                | {"norm": float(norm)}
            )
    few, most_pairs = pairs[0], pairs[-1]
    at = {(cell["pairs"], cell["steps"]): cell for cell in cells}
    shares = {}
    for key in ("value", "unit_value"):
        low, high = at[few, steps[0]][key], at[most_pairs, steps[-1]][key]
        shares[key] = {
            "change": high - low,
            "steps_alone": (at[few, steps[-1]][key] - low) / (high - low),
            "pairs_alone": (at[most_pairs, steps[0]][key] - low) / (high - low),
        }
    return {"target": target, "hidden": hidden, "cells": cells, "shares": shares}

"""Whether the loss shapes what is learned, or the labels.

If weights learned from the same pairs by different losses are nearly parallel, the labels decide.

Axes: S seeds, K stakeholders, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.preference.goodhart import FEW, NUM_TRAINED, SEEDS
from train.preference.losses import LOSSES, penalty
from train.preference.space import Space, cosine
from train.preference.training import FitConfig, learn

Floats = NDArray[np.float64]

MARGINS, CALIBRATIONS = (0.1, 0.5, 1.0), (0.1, 1.0, 5.0)
_SETTING_SEEDS = 2  # of the seeds, for settings


def by_loss(
    space: Space, seeds: Sequence[int] = SEEDS, fit: FitConfig | None = None
) -> dict[str, dict[str, Any]]:
    """Cosines of weights learned by each two losses from the same pairs, means over seeds.

    Returns:
        stakeholder -> one for each two losses, `mean` over those of the three that need no
        actions, and held-out `accuracy` of each loss.
    """
    base = fit or FitConfig()
    names = [name for name in LOSSES if name != "constrained" or space.negative.any()]
    learned = {
        name: learn(
            space, space.utility, NUM_TRAINED, seeds, base.model_copy(update={"loss": name})
        )
        for name in names
    }
    found = {}
    for at, who in enumerate(space.stakeholders):
        pairs = {
            f"{a} / {b}": float(cosine(learned[a][0][:, at], learned[b][0][:, at]).mean())
            for a, b in combinations(names, 2)
        }
        general = [value for key, value in pairs.items() if "constrained" not in key]
        right = {name: float(of[1][:, at].mean()) for name, of in learned.items()}
        found[who] = {**pairs, "mean": float(np.mean(general)), "accuracy": right}
    return found


def constrained(
    spaces: Mapping[str, Space], seeds: Sequence[int] = SEEDS, fit: FitConfig | None = None
) -> list[dict[str, Any]]:
    """Whether the constrained loss learns anything that Bradley-Terry does not, by where it starts.

    A rule that already holds at the start and is never broken on the way changes nothing.

    Args:
        spaces: of actions, by name of their start.
        seeds: one a run.
        fit: how to learn.

    Returns:
        A row each start, number of pairs and stakeholder: cosine of both losses' weights, the
        largest difference of a weight, what is left of Bradley-Terry's and of its own penalty, and
        both accuracies on held-out pairs; means over seeds, but the difference.
    """
    base = fit or FitConfig()
    rows = []
    for start, space in spaces.items():
        negative = torch.from_numpy(space.negative)
        for num in (FEW, NUM_TRAINED):
            (plain, told), (ruled, ruled_told) = (
                learn(space, space.utility, num, seeds, base.model_copy(update={"loss": loss}))
                for loss in ("bt", "constrained")
            )
            for k, who in enumerate(space.stakeholders):
                left = [
                    float(penalty(who, torch.from_numpy(w[:, k]), negative).mean())
                    for w in (plain, ruled)
                ]
                rows.append(
                    {
                        "start": start,
                        "pairs": num,
                        "stakeholder": who,
                        "cosine": float(cosine(plain[:, k], ruled[:, k]).mean()),
                        "largest_difference": float(np.abs(plain[:, k] - ruled[:, k]).max()),
                        "penalty_without": left[0],
                        "penalty": left[1],
                        "accuracy_without": float(told[:, k].mean()),
                        "accuracy": float(ruled_told[:, k].mean()),
                    }
                )
    return rows


def by_setting(
    space: Space, seeds: Sequence[int] = SEEDS, fit: FitConfig | None = None
) -> dict[str, Any]:
    """The same for Bradley-Terry, three margins and three weights of calibration.

    Returns:
        stakeholder -> `mean` cosine of two of the seven, over pairs of them and seeds, and `min`.
    """
    changes: list[dict[str, Any]] = [{}]
    changes += [{"loss": "margin", "margin": margin} for margin in MARGINS]
    changes += [{"loss": "calibrated", "calibration": weight} for weight in CALIBRATIONS]
    fits = [(fit or FitConfig()).model_copy(update=change) for change in changes]
    few = seeds[:_SETTING_SEEDS]
    learned = [learn(space, space.utility, NUM_TRAINED, few, each)[0] for each in fits]
    table = np.stack([cosine(a, b) for a, b in combinations(learned, 2)])  # [pairs, S, K]
    return {
        who: {"mean": float(table[..., at].mean()), "min": float(table[..., at].min())}
        for at, who in enumerate(space.stakeholders)
    }

"""Whether the loss shapes what is learned, or the labels.

If weights learned from the same pairs by different losses are nearly parallel, the labels decide.

Axes: S seeds, K stakeholders, D features, M mixtures of stakeholders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.preference.frontier import hypervolume
from train.preference.goodhart import FEW, MANY, NUM_TRAINED, SEEDS
from train.preference.losses import LOSSES, penalty
from train.preference.selection import frontier
from train.preference.space import Space, cosine
from train.preference.training import FitConfig, learn

Floats = NDArray[np.float64]

MARGINS, CALIBRATIONS = (0.1, 0.5, 1.0), (0.1, 1.0, 5.0)
_SETTING_SEEDS = 2  # of the seeds, for settings
_STEPS = 5  # a mixture's shares are multiples of a fifth


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


def mixtures(num: int) -> Floats:
    """Shares of stakeholders in multiples of a fifth, with two of them at least. [M, K]."""
    grid = product(range(_STEPS + 1), repeat=num)
    return np.array([m for m in grid if sum(m) == _STEPS and max(m) < _STEPS]) / _STEPS


def composition(
    space: Space, seeds: Sequence[int] = SEEDS, fit: FitConfig | None = None
) -> dict[str, Any]:
    """How well weights for a mixture of stakeholders are composed from each one's own.

    Always by Bradley-Terry: a mixture has no worth to calibrate to and no rule of its own.

    Weights are learned from pairs that a mixture's utility labels, and projected on the span of
    each stakeholder's own learned weights. The frontiers of both are compared by the hypervolume
    above the worst value that either gives each stakeholder.

    Returns:
        mean and least cosine of mixtures to their projections (means over seeds), how many are
        above 0.95, and the ratio of hypervolumes: composed over learned for the mixture, and the
        same for the plain mean of all stakeholders' learned weights.
    """
    shares = mixtures(len(space.stakeholders))
    labellers = [0] * len(shares)  # Bradley-Terry does not ask who labels
    plain = (fit or FitConfig()).model_copy(update={"loss": "bt"})
    own, _ = learn(space, space.utility, MANY, seeds, plain)
    mixed, _ = learn(space, shares @ space.utility, MANY, seeds, plain, labellers)
    composed = np.stack([_projected(m, o) for m, o in zip(mixed, own, strict=True)])
    alike = cosine(mixed, composed).mean(axis=0)
    ratios = [
        _volumes(space, mixed[at], composed[at], own[at].mean(axis=0, keepdims=True))
        for at in range(len(seeds))
    ]
    return {
        "mixtures": len(shares),
        "cosine_mean": float(alike.mean()),
        "cosine_min": float(alike.min()),
        "above_0.95": int((alike > 0.95).sum()),
        **{key: float(np.mean([row[key] for row in ratios])) for key in ratios[0]},
    }


def _projected(vectors: Floats, onto: Floats) -> Floats:
    """Each row's nearest point in the span of the rows of `onto`."""
    basis, _ = np.linalg.qr(onto.T)
    return vectors @ basis @ basis.T


def _volumes(space: Space, learned: Floats, composed: Floats, mean: Floats) -> Mapping[str, float]:
    every = {
        name: frontier(space, weights).reshape(-1, len(space.stakeholders))
        for name, weights in (("learned", learned), ("composed", composed), ("mean", mean))
    }
    worst = np.concatenate(list(every.values())).min(axis=0) - 1e-6
    volume = {name: hypervolume(points, worst) for name, points in every.items()}
    return {
        "hypervolume_composed": volume["composed"] / volume["learned"],
        "hypervolume_mean": volume["mean"] / volume["learned"],
    }

"""Losses of pairwise preferences: pure functions of scores, finite for any finite scores.

`d` is the preferred item's score less the rejected one's. log(1 + e^-d) is computed as
softplus(-d), which neither overflows nor loses its gradient.

Axes: B pairs, D features; leading axes are runs, and stay.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

Loss = Literal["bt", "margin", "calibrated", "constrained"]
LOSSES: tuple[Loss, ...] = ("bt", "margin", "calibrated", "constrained")

_TINY = 1e-12  # keeps the root of a variance of 0 differentiable


def bradley_terry(preferred: Tensor, rejected: Tensor) -> Tensor:
    """Mean log(1 + e^-d) (Bradley and Terry 1952). [..., B] twice -> [...]."""
    return softplus(rejected - preferred).mean(-1)


def margin_bradley_terry(
    preferred: Tensor, rejected: Tensor, margin: float = 0.5, temperature: float = 0.1
) -> Tensor:
    """Mean t softplus((margin - d) / t): a soft hinge. [..., B] twice -> [...]."""
    gap = margin - (preferred - rejected)
    return (temperature * softplus(gap / temperature)).mean(-1)


def calibrated_bradley_terry(
    preferred: Tensor,
    rejected: Tensor,
    worth_preferred: Tensor,
    worth_rejected: Tensor,
    weight: float = 1.0,
) -> Tensor:
    """Bradley-Terry and squared errors of sigmoid(score) to the items' worth, 0 to 1. -> [...]."""
    errors = (preferred.sigmoid() - worth_preferred) ** 2
    errors = errors + (rejected.sigmoid() - worth_rejected) ** 2
    return bradley_terry(preferred, rejected) + weight * errors.mean(-1)


def negative_penalty(weights: Tensor, negative: Tensor, at_most: float = -0.1) -> Tensor:
    """How far weights of negative actions are above `at_most`, on average.

    Args:
        weights: [..., D].
        negative: which of the features are negative actions. bool [D].
        at_most: what is not penalised.
    """
    return (weights[..., negative] - at_most).clamp(min=0).mean(-1)


def spread_penalty(weights: Tensor, at_least: float = 0.3) -> Tensor:
    """How far the standard deviation of weights is below `at_least`. [..., D] -> [...]."""
    sd = (weights.var(-1, unbiased=False) + _TINY).sqrt()
    return (at_least - sd).clamp(min=0)


def penalty(name: str, weights: Tensor, negative: Tensor) -> Tensor:
    """What a constrained loss adds for this stakeholder: nothing for one without a rule."""
    if name == "user":
        return negative_penalty(weights, negative)
    if name == "society":
        return spread_penalty(weights)
    return torch.zeros_like(weights[..., 0])

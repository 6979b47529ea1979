"""How a field's scales become one number: weights by the dimension, and growth below 0.

Axes: B viewers, C candidates, S scales.
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.models.fractal.config import FieldConfig


def scale_weights(ratio: Tensor, config: FieldConfig) -> Tensor:
    """Weights of the scales for dimension ratios ρ [B]: float64 [B, S], rows sum to 1."""
    S = config.num_scales
    if config.scale_weights is not None:
        weights = torch.tensor(config.scale_weights, dtype=torch.float64, device=ratio.device)
        weights = weights.expand(len(ratio), S)
    else:
        order = torch.arange(S, dtype=torch.float64, device=ratio.device)
        rise = config.dimension_weight * ratio.double()[:, None] * order / max(S - 1, 1)
        weights = 0.5**order * (1 + rise)
    return weights / weights.sum(1, keepdim=True)


def suppression(ratio: Tensor, config: FieldConfig) -> Tensor:
    """What totals below 0 are multiplied by: 1 + η (1 - ρ). [B]."""
    return 1 + config.destructive_gain * (1 - ratio)


def combined(by_scale: Tensor, weights: Tensor, multiplier: Tensor) -> Tensor:
    """The weighted sum over scales, grown where it is negative.

    Args:
        by_scale: [B, C, S].
        weights: as of `scale_weights`. [B, S].
        multiplier: as of `suppression`. [B].

    Returns:
        [B, C], of the dtype of `by_scale`.
    """
    total = (by_scale * weights.to(by_scale.dtype)[:, None]).sum(2)
    growth = multiplier.to(total.dtype)[:, None] - 1
    return total.addcmul(total.clamp(max=0), growth)

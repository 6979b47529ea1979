"""Numbers as int8 with a scale for each row: weights, and keys and values that are kept."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 127  # to each side of 0
TINY = 1e-30  # largest number of zeros


def to_int8(exact: Tensor) -> tuple[Tensor, Tensor]:
    """Steps, and what they are times: `steps * scale` is off by half a step at most.

    What is zero stays so. float32 [..., n] -> int8 [..., n], float32 [..., 1].
    """
    scale = exact.abs().amax(dim=-1, keepdim=True).clamp(min=TINY) / STEPS
    return (exact / scale).round().clamp(-STEPS, STEPS).to(torch.int8), scale

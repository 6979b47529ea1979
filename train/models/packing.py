"""Padded arrays without their padding: what holds something, end to end, and the way back.

Axes: B batch, T slots, N slots that hold something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Which slots of padded sequences hold something.

    Attributes:
        slot: int64 [N], ascending, counted over all sequences: b * T + t.
        shape: (B, T).
    """

    slot: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, valid: Tensor) -> Packing:
        """The packing of what is `valid`, bool [B, T]; on a GPU this waits for it."""
        return cls(valid.flatten().nonzero().flatten(), (valid.shape[0], valid.shape[1]))

    def pack(self, x: Tensor) -> Tensor:
        """[B, T, ...] -> [N, ...]."""
        return x.flatten(0, 1).index_select(0, self.slot)

    def unpack(self, x: Tensor) -> Tensor:
        """[N, ...] -> [B, T, ...], zeros where nothing was."""
        padded = x.new_zeros(math.prod(self.shape), *x.shape[1:])
        return padded.index_copy(0, self.slot, x).unflatten(0, self.shape)

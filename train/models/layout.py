"""Where tokens stand and who may look at whom.

Axes: B batch, T tokens, N tokens of a whole batch that are no padding, d head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from train.models.packing import Packing

_ROPE_BASE = 10_000.0


@dataclass(frozen=True)
class Layout:
    """Positions of tokens that look at each other, and who may look at whom.

    Attributes:
        position: int64 [B, T], for RoPE, which sees differences only.
        allowed: bool [B, T, T], row = the token that looks.
        seen: bool [B, T], what is no padding.
        packing: keeps padding out of everything but the attention product; None = does not.
    """

    position: Tensor
    allowed: Tensor
    seen: Tensor
    packing: Packing | None = None


def attention_mask(num_tokens: int, candidate_start: int | None = None) -> Tensor:
    """Who may look at whom: causal, and candidates never see each other.

    Args:
        num_tokens: T.
        candidate_start: slot of the first candidate; None = there are none.

    Returns:
        bool [T, T], row = the token that looks.
    """
    allowed = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()
    if candidate_start is not None:
        num_candidates = num_tokens - candidate_start
        allowed[candidate_start:, candidate_start:] = torch.eye(num_candidates, dtype=torch.bool)
    return allowed


def make_layout(
    valid: Tensor, candidate_start: int | None = None, anchored: bool = True, packed: bool = False
) -> Layout:
    """The layout of padded sequences, [context | candidates], under one mask.

    Args:
        valid: bool [B, T]; padding is never looked at. Its own outputs mean nothing.
        candidate_start: slot of the first candidate, None = there are none.
        anchored: all candidates stand right after the newest valid token of the context;
            otherwise each in its own slot, so that a score depends on their order.
        packed: padding is left out of what is computed token by token; outputs of padding
            are then 0, all others the same.
    """
    num_tokens = valid.shape[1]
    position = torch.arange(num_tokens, device=valid.device).expand_as(valid)
    if anchored and candidate_start is not None:
        after = after_newest(valid[:, :candidate_start])[:, None]
        position = torch.where(position < candidate_start, position, after)
    mask = attention_mask(num_tokens, candidate_start).to(valid.device)
    packing = Packing.of(valid) if packed else None
    return Layout(position, mask & valid[:, None, :], valid, packing)


def after_newest(valid: Tensor) -> Tensor:
    """The slot after the last valid one, at least 1. bool [B, T] -> int64 [B]."""
    slot = torch.arange(valid.shape[1], device=valid.device)
    return (slot * valid).amax(dim=1) + 1


@dataclass(frozen=True)
class Place:
    """Where tokens stand, as a transformer needs it; the tokens are packed if `packing` is there.

    Attributes:
        angles: as `rope_angles` gives them, packed like the tokens.
        packing: as of `Layout`.
    """

    angles: tuple[Tensor, Tensor]
    packing: Packing | None

    @classmethod
    def of(cls, position: Tensor, key_size: int, packing: Packing | None) -> Place:
        """Of tokens at `position`, int64 [B, T]."""
        angles = rope_angles(position, key_size)
        if packing is not None:
            angles = packing.pack(angles[0]), packing.pack(angles[1])
        return cls(angles, packing)

    def pack(self, x: Tensor) -> Tensor:
        """[B, T, ...] -> as the tokens are."""
        return x if self.packing is None else self.packing.pack(x)

    def unpack(self, x: Tensor) -> Tensor:
        """As the tokens are -> [B, T, ...]."""
        return x if self.packing is None else self.packing.unpack(x)


def rope_angles(position: Tensor, key_size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each pair's angle at each position.

    Args:
        position: [B, T].
        key_size: d.

    Returns:
        float32 [B, T, 1, d] each, the halves equal.
    """
    half = key_size // 2
    exponent = torch.arange(half, device=position.device, dtype=torch.float32) / half
    phase = position.to(torch.float32)[..., None] * _ROPE_BASE**-exponent  # [B, T, d/2]
    phase = torch.cat([phase, phase], dim=-1)[:, :, None, :]
    return phase.cos(), phase.sin()


def rope(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each head's halves by an angle that grows with the token's position.

    Args:
        x: [B, T, heads, d].
        angles: as `rope_angles` gives them.
    """
    cos, sin = angles
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + turned * sin).to(x.dtype)

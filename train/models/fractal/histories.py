"""Histories as sources of waves: checked, without padding's values, centred, with amplitudes.

Axes: B viewers, n points of a history, C candidates, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from train.models.fractal.dimension import centred, real_points


@dataclass(frozen=True)
class Histories:
    """Checked histories of B viewers.

    Attributes:
        points: minus the centre, the first `lengths` of them real, others 0. float64 [B, n, d].
        centre: mean of a history. float64 [B, d].
        squares: |p|². float64 [B, 1, n].
        lengths: int64 [B].
        groups: amplitudes of the sources: the liked, and where signed the disliked, both
            positive. float64 [B, n] each.
        dtype: of the history that was read.
    """

    points: Tensor
    centre: Tensor
    squares: Tensor
    lengths: Tensor
    groups: tuple[Tensor, ...]
    dtype: torch.dtype


def read(
    history: Tensor,
    amplitudes: Tensor | None,
    lengths: Tensor | None,
    *,
    signed: bool,
    drop_zeros: bool,
    half_life: float | None,
    normalised: bool,
) -> Histories:
    """Check and arrange histories; see `field.fit` and `field.FieldConfig`.

    Raises:
        ValueError: names the argument, its shape or viewer, and what is expected.
    """
    points, lengths = _points(history, lengths)
    real = real_points(points, lengths)
    weights = _amplitudes(amplitudes, real, signed)
    if half_life is not None:
        newest = lengths[:, None] - 1
        age = newest.double() - torch.arange(points.shape[1], device=points.device)
        weights = torch.where(real, weights * 0.5 ** (age.clamp_min(0) / half_life), 0.0)
    if drop_zeros:
        kept = real & (points != 0).any(2)
        order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
        points = points.gather(1, order[:, :, None].expand_as(points))
        weights, lengths = weights.gather(1, order), kept.sum(1)
        real = real_points(points, lengths)
        weights = torch.where(real, weights, 0.0)
    groups: tuple[Tensor, ...] = (weights,)
    if signed:
        groups = weights.clamp_min(0), (-weights).clamp_min(0)
    if normalised:
        sums = [group.sum(1, keepdim=True) for group in groups]
        groups = tuple(g / torch.where(s > 0, s, 1.0) for g, s in zip(groups, sums, strict=True))
    points = torch.where(real[:, :, None], points, 0.0)
    centre = points.sum(1) / lengths.clamp_min(1)[:, None]
    points = centred(points, lengths)
    squares = points.square().sum(2)[:, None]
    return Histories(points, centre, squares, lengths, groups, history.dtype)


def arrive(candidates: Tensor, histories: Histories) -> tuple[Tensor, Tensor]:
    """Candidates minus the histories' centres, float64, and where they are zero vectors.

    Raises:
        ValueError: the shape, dtype, device or a value does not fit the histories.
    """
    B, _, d = histories.points.shape
    if candidates.ndim != 3 or candidates.shape[0] != B or candidates.shape[2] != d:
        shape = tuple(candidates.shape)
        raise ValueError(f"candidates: expected [{B}, C, {d}], got shape {shape}")
    if candidates.dtype != histories.dtype or candidates.device != histories.points.device:
        raise ValueError(
            f"candidates: expected {histories.dtype} on {histories.points.device} as the history, "
            f"got {candidates.dtype} on {candidates.device}"
        )
    largest = candidates.abs().amax(2)
    if not torch.isfinite(largest).all():
        raise ValueError("candidates: all values must be finite")
    return candidates.double() - histories.centre[:, None], largest == 0


def _points(history: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Points in float64, padding 0, and lengths."""
    if history.ndim != 3 or not history.shape[2]:
        shape = tuple(history.shape)
        raise ValueError(f"history: expected [B, n, d] with d ≥ 1, got shape {shape}")
    if history.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"history: expected float32 or float64, got {history.dtype}")
    B, n, _ = history.shape
    if lengths is None:
        lengths = torch.full((B,), n, device=history.device)
    if lengths.shape != (B,) or lengths.is_floating_point() or lengths.is_complex():
        raise ValueError(f"lengths: expected {B} whole numbers, got {lengths!r}")
    lengths = lengths.to(history.device).long()
    if ((lengths < 0) | (lengths > n)).any():
        raise ValueError(f"lengths: expected 0 to {n}, got {lengths.tolist()}")
    real = real_points(history, lengths)
    points = torch.where(real[:, :, None], history.detach().double(), 0.0)
    if not torch.isfinite(points).all():
        row = int((~torch.isfinite(points)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"history: all values must be finite; viewer {row} has others")
    return points, lengths


def _amplitudes(amplitudes: Tensor | None, real: Tensor, signed: bool) -> Tensor:
    """Amplitudes in float64, padding 0."""
    if amplitudes is None:
        return real.double()
    if amplitudes.shape != real.shape:
        shape = tuple(amplitudes.shape)
        raise ValueError(f"amplitudes: expected [B, n] = {tuple(real.shape)}, got {shape}")
    amplitudes = torch.where(real, amplitudes.detach().to(real.device).double(), 0.0)
    if not torch.isfinite(amplitudes).all():
        raise ValueError("amplitudes: all values must be finite")
    if not signed and (amplitudes < 0).any():
        raise ValueError(
            "amplitudes must be non-negative; `signed` makes disliked posts sources of their own"
        )
    silent = real.any(1) & ~(amplitudes != 0).any(1)
    if silent.any():
        row = int(silent.nonzero()[0])
        raise ValueError(f"amplitudes: at least one must not be 0; all of viewer {row} are")
    return amplitudes

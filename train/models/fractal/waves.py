"""Wave vectors and wavelengths of an interference field.

Axes: B viewers, n points of a history, the first `lengths` of them real, d width, K waves,
S scales.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from train.models.fractal.config import FieldConfig
from train.models.fractal.dimension import centred, pairwise, real_points
from train.models.fractal.histories import Histories

_POSITIVE = 1e-12
_SHORTEST = 1e-6  # of a wavelength at a quantile of the distances
SHORTEST, LONGEST = 0.05, 10.0  # of a wavelength that a history's distances choose


def random_waves(num_waves: int, width: int, seed: int = 0) -> Tensor:
    """Unit vectors in directions drawn by NumPy's default generator. float64 [K, d]."""
    drawn = np.random.default_rng(seed).standard_normal((num_waves, width))
    return unit(torch.from_numpy(drawn))


def pca_waves(
    points: Tensor, lengths: Tensor, num_waves: int, seeds: Sequence[int] = (0,)
) -> tuple[Tensor, Tensor]:
    """The K principal directions of each history, and each one's share of the field.

    A history has min(length, d) of them; random directions follow. A history that does not vary
    has the axes instead: fewer than K where d is less, the rest have share 0.

    Directions that no variance tells apart are whatever the decomposition makes of them.

    Args:
        points: finite where real. [B, n, d].
        lengths: int64 [B].
        num_waves: K.
        seeds: of the random directions; one, or one a viewer.

    Returns:
        Unit rows [B, K, d], and shares that sum to 1 [B, K]. float64.
    """
    B, _, width = points.shape
    around = centred(points.double(), lengths)
    shares = around.new_full((B, num_waves), 1 / num_waves)
    waves = around.new_zeros(B, num_waves, width)
    if not around.numel():
        sizes, directions = around.new_zeros(B, 1), around.new_zeros(B, 0, width)
    else:
        _, sizes, directions = torch.linalg.svd(around, full_matrices=False)
    waves[:, : directions.shape[1]] = directions[:, :num_waves]
    axes = torch.eye(num_waves, width, dtype=waves.dtype, device=waves.device)
    constant = (sizes[:, 0] <= _POSITIVE).tolist()
    for row, length in enumerate(lengths.tolist()):
        have = min(length, width)
        if constant[row]:
            waves[row] = axes
            have = min(num_waves, width)
            shares[row] = 0
            shares[row, :have] = 1 / have
        elif have < num_waves:
            random = np.random.default_rng(seeds[row % len(seeds)])
            more = torch.from_numpy(random.standard_normal((num_waves - have, width)))
            waves[row, have:] = more.to(waves.device)
    return unit(waves), shares


def unit(rows: Tensor) -> Tensor:
    """Rows of length 1; a zero row stays zero."""
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(_POSITIVE)


def distance_quantiles(points: Tensor, lengths: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles of the positive distances within each history; nan where there are none.

    Interpolated as NumPy does. float64 [B, len(shares)].
    """
    points = points.double()
    if points.shape[1] < 2:
        return points.new_full((len(points), len(shares)), torch.nan)
    real = real_points(points, lengths)
    distance = pairwise(torch.where(real[:, :, None], points, 0.0))
    pair = (real[:, :, None] & real[:, None, :] & (distance > _POSITIVE)).triu(1)
    ordered = distance.masked_fill_(~pair, torch.inf).flatten(1).sort(1).values
    number = pair.sum((1, 2))
    at = torch.tensor(shares, dtype=torch.float64, device=points.device)
    at = at * (number[:, None] - 1).clamp_min(0)
    low, high = ordered.gather(1, at.floor().long()), ordered.gather(1, at.ceil().long())
    between = low + (high - low) * (at - at.floor())
    return torch.where(number[:, None] > 0, between, torch.nan)


def base_scale(points: Tensor, lengths: Tensor) -> Tensor:
    """The longest wavelength by default: twice the median distance, within 0.05 and 10.

    1 where a history has no two different points. float64 [B].
    """
    median = distance_quantiles(points, lengths, (0.5,))[:, 0]
    return torch.where(median.isnan(), 1.0, (2 * median).clamp(SHORTEST, LONGEST))


def wave_vectors(
    histories: Histories, config: FieldConfig, waves: Tensor | None, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Unit rows float64 [B, K, d] of a field, and their shares [B, K].

    Raises:
        ValueError: the given `waves` do not fit.
    """
    B, _, d = histories.points.shape
    device = histories.points.device
    if waves is None and config.waves == "pca":
        return pca_waves(histories.points, histories.lengths, config.num_waves, seeds)
    if waves is None:
        waves = torch.stack([random_waves(config.num_waves, d, seed) for seed in seeds])
    waves = waves.to(device).double()
    if waves.ndim == 2:
        waves = waves[None]
    if waves.ndim != 3 or waves.shape[0] not in (1, B) or waves.shape[2] != d:
        raise ValueError(f"waves: expected [K, {d}] or [{B}, K, {d}], got {tuple(waves.shape)}")
    norms = waves.norm(dim=2, keepdim=True)
    if not (torch.isfinite(norms) & (norms > 0)).all():
        raise ValueError("waves: every row must be finite and not zero")
    waves = (waves / norms).expand(B, -1, -1)
    return waves, waves.new_full(waves.shape[:2], 1 / waves.shape[1])


def wavelengths(histories: Histories, config: FieldConfig) -> Tensor:
    """Of a field, longest first. float64 [B, S]."""
    points, lengths = histories.points, histories.lengths
    if config.quantiles is not None:
        found = distance_quantiles(points, lengths, config.quantiles).clamp_min(_SHORTEST)
        return torch.where(found.isnan(), 1.0, found)
    if config.base_scale is None:
        longest = base_scale(points, lengths)
    else:
        longest = points.new_full((len(points),), config.base_scale)
    halves = 0.5 ** torch.arange(config.num_scales, dtype=torch.float64, device=points.device)
    return longest[:, None] * halves

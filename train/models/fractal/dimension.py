"""How many dimensions histories fill: TwoNN under the participation ratio, and box counting.

All of it is computed in float64, whatever comes in. Per viewer it is a rough estimate: on
MovieLens two halves of a viewer's history do not agree about TwoNN.

Axes: B viewers, n points of a history, the first `lengths` of them real, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# TwoNN of a longer history is that of this many of its points: guarded, and as published.
MAX_POINTS, PUBLISHED_MAX_POINTS = 2048, 512
_POSITIVE = 1e-12  # distances and variances below count as none
_LEAST = 0.1  # the smallest dimension


@dataclass(frozen=True)
class Dimension:
    """Intrinsic dimension of each history. float64 [B] each.

    Attributes:
        value: the smaller of slope and cap, within 0.1 and d; 1 of fewer than 3 usable points.
        slope: of TwoNN alone.
        cap: the participation ratio of the variances.
        ratio: value / d, at most 1.
    """

    value: Tensor
    slope: Tensor
    cap: Tensor
    ratio: Tensor


def two_nn(
    points: Tensor,
    lengths: Tensor,
    *,
    guarded: bool = True,
    seeds: Sequence[int] = (0,),
) -> Dimension:
    """Estimate the dimension from the ratios of the two nearest distances, with a cap.

    The ratios' log is fitted by a line through the origin to -ln(1 - rank / number), without the
    largest (Facco et al. 2017, doi:10.1038/s41598-017-11873-y).

    Args:
        points: finite where real. [B, n, d].
        lengths: int64 [B].
        guarded: equal points count once. Without it distances come from inner products as in
            the published scorer, which takes rounding between equal points for a distance.
        seeds: of the choice among more points than are used; one, or one a viewer.
    """
    points, lengths = _at_most(
        MAX_POINTS if guarded else PUBLISHED_MAX_POINTS, points.double(), lengths, seeds
    )
    real = real_points(points, lengths)
    width = points.shape[2]
    distance = pairwise(points, exact=guarded)
    repeated = ((distance == 0) & real[:, None, :]).tril(-1).any(2)  # equal to one before it
    counted = real & ~repeated if guarded else real
    pair = counted[:, :, None] & counted[:, None, :]
    pair.diagonal(dim1=1, dim2=2).fill_(False)
    distance.masked_fill_(~pair, torch.inf)
    if distance.shape[1] < 3:  # topk needs two others
        slope, usable = distance.new_ones(len(distance)), lengths.new_zeros(len(distance))
    else:
        slope, usable = _slope(distance)
    cap, varied = participation_ratio(points, lengths)
    few = (counted.sum(1) < 3) | (usable < 3) | ~varied
    slope = torch.where(few, 1.0, slope)
    value = torch.where(few, 1.0, torch.minimum(slope, cap).clamp(_LEAST, width))
    return Dimension(value, slope, cap, (value / width).clamp(0, 1))


def participation_ratio(points: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """(sum of variances)² / sum of squares, 1 where nothing varies; and where something does.

    The sums are traces of the Gram matrix and of its square, so nothing is decomposed.
    """
    around = centred(points.double(), lengths)
    wide = around.shape[2] > around.shape[1]
    gram = around @ around.mT if wide else around.mT @ around
    total = gram.diagonal(dim1=1, dim2=2).sum(1)
    varied = total > _POSITIVE
    squares = gram.square().sum((1, 2)).clamp_min(torch.finfo(gram.dtype).tiny)
    return torch.where(varied, total.square() / squares, 1.0), varied


def pairwise(points: Tensor, exact: bool = True) -> Tensor:
    """Distances of all pairs, [B, n, n], without [B, n, n, d].

    Exact ones are 0 between equal points. The others come from inner products, faster.
    """
    if exact:
        return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    squares = points.square().sum(2)
    gram = squares[:, :, None] + squares[:, None, :] - 2 * (points @ points.mT)
    return gram.clamp_min_(0).sqrt_()


def centred(points: Tensor, lengths: Tensor) -> Tensor:
    """Points minus their history's mean; padding 0."""
    real = real_points(points, lengths)[:, :, None]
    points = torch.where(real, points, 0.0)
    mean = points.sum(1, keepdim=True) / lengths.clamp_min(1)[:, None, None]
    return torch.where(real, points - mean, 0.0)


def real_points(points: Tensor, lengths: Tensor) -> Tensor:
    """Where points are no padding. bool [B, n]."""
    return torch.arange(points.shape[1], device=points.device) < lengths[:, None]


@dataclass(frozen=True)
class BoxCount:
    """Boxes that hold a point, per scale, and the line fitted to their logs.

    Attributes:
        dimension: slope of ln counts over ln(1 / scales), at least 0.
        scales: sides of the boxes. float64 [S].
        counts: int64 [S].
        intercept: of the line.
        r_squared: share of the variance that the line explains.
    """

    dimension: float
    scales: Tensor
    counts: Tensor
    intercept: float
    r_squared: float


def box_count(points: Tensor, scales: Sequence[float] | None = None) -> BoxCount:
    """Count boxes over one set of points, scaled to the unit cube.

    Args:
        points: finite. [n, d].
        scales: at least two sides of boxes; 2⁻¹ to 2⁻⁸ by default.

    Raises:
        ValueError: points are not 2D, none, or not finite; scales are not positive.
    """
    if points.ndim != 2:
        raise ValueError(f"points: expected a 2D array [n, d], got shape {tuple(points.shape)}")
    if not points.numel():
        raise ValueError(f"points: expected at least one, got shape {tuple(points.shape)}")
    if not torch.isfinite(points).all():
        raise ValueError("points: all values must be finite")
    sides = torch.tensor(
        [2.0**-power for power in range(1, 9)] if scales is None else scales, dtype=torch.float64
    )
    if sides.ndim != 1 or len(sides) < 2 or not (torch.isfinite(sides) & (sides > 0)).all():
        raise ValueError(f"scales: expected two or more positive finite numbers, got {scales}")
    points = points.detach().cpu().double()
    low = points.amin(0)
    span = points.amax(0) - low
    unit = ((points - low) / span)[:, span > 0]
    counts = torch.ones(len(sides), dtype=torch.int64)
    if unit.shape[1]:
        for at, side in enumerate(sides):
            boxes = torch.floor(unit / side).clamp(0, float(torch.ceil(1 / side)) - 1)
            counts[at] = len(torch.unique(boxes, dim=0))
    logs, inverse = counts.double().log(), (1 / sides).log()
    if (counts == counts[0]).all():
        return BoxCount(0.0, sides, counts, float(logs[0]), 1.0)
    x, y = inverse - inverse.mean(), logs - logs.mean()
    slope = float((x * y).sum() / x.square().sum())
    left = (y - slope * x).square().sum() / y.square().sum()
    intercept = float(logs.mean() - slope * inverse.mean())
    return BoxCount(max(0.0, slope), sides, counts, intercept, float(1 - left))


def _slope(distance: Tensor) -> tuple[Tensor, Tensor]:
    """TwoNN's slope, and how many points have two distinct neighbours. [B] each."""
    nearest = distance.topk(2, dim=2, largest=False).values  # [B, n, 2]
    first, second = nearest.unbind(2)
    usable = (first > _POSITIVE) & torch.isfinite(second)
    ratio = torch.where(usable, second / first.clamp_min(_POSITIVE), torch.inf)
    ratio = ratio.sort(1).values.clamp_min(1 + 1e-12)
    number = usable.sum(1)
    rank = torch.arange(1, ratio.shape[1] + 1, dtype=torch.float64, device=ratio.device)
    kept = rank < number[:, None]  # without the last
    x = torch.where(kept, ratio, 1.0).log()
    share = torch.where(kept, rank / number[:, None].clamp_min(1), 0.0)
    y = -torch.log1p(-share)
    return (x * y).sum(1) / x.square().sum(1).clamp_min(_POSITIVE), number


def _at_most(
    most: int, points: Tensor, lengths: Tensor, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Histories of no more than `most` points, longer ones drawn without replacement."""
    if points.shape[1] <= most:
        return points, lengths
    rows = torch.arange(most).repeat(len(points), 1)
    for row, length in enumerate(lengths.tolist()):
        if length > most:
            random = np.random.default_rng(seeds[row % len(seeds)])
            rows[row] = torch.from_numpy(random.choice(length, most, replace=False))
    rows = rows.to(points.device)
    drawn = points.gather(1, rows[:, :, None].expand(-1, -1, points.shape[2]))
    return drawn, lengths.clamp_max(most)

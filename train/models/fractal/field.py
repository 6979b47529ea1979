"""The interference field: every post of a history sends waves, and a candidate adds them up.

    S_s(q) = 2 sum_i w_i exp(-|q - p_i|² / 2 λ_s²) (1/K) sum_k cos(2π k·(q - p_i) / λ_s)

Since cos(a - b) = cos a cos b + sin a sin b, the sum over i is one product of the envelopes
[C, n] with the history's columns [n, 2K], and candidates meet it with their own columns
[C, 2K]: nothing of size C·n·K or C·n·d exists. Distances and phases are computed in float64,
the rest in the history's dtype.

Axes: B viewers, n points of a history, C candidates, d width, K waves, S scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from configs import Config
from train.models.fractal.dimension import Dimension, two_nn
from train.models.fractal.histories import Histories, arrive, read
from train.models.fractal.waves import base_scale, distance_quantiles, pca_waves, random_waves

_SHORTEST = 1e-6  # of a wavelength at a quantile of the distances


class FieldConfig(Config):
    """How a field is made of a history. The published prototype is `PUBLISHED`."""

    num_scales: PositiveInt = 4  # S; each wavelength is half the one before
    num_waves: PositiveInt = 8  # K
    waves: Literal["random", "pca"] = "random"  # the same for all viewers, or a history's own
    base_scale: PositiveFloat | None = None  # λ_1; None = twice the median distance
    # Wavelengths at these quantiles of a history's distances instead, longest first.
    quantiles: tuple[float, ...] | None = None
    scale_weights: tuple[NonNegativeFloat, ...] | None = None  # any sum; None = halved each time,
    dimension_weight: NonNegativeFloat = 1.0  # β: and raised by this times ρ towards the last
    destructive_gain: NonNegativeFloat = 0.75  # η: totals below 0 grow by η (1 - ρ)
    # Zero vectors neither send nor receive, equal points count once in the dimension.
    guarded: bool = True
    envelope: bool = True  # off: waves do not fade with distance
    phase: bool = True  # off: a sum of Gaussian kernels
    half_life: PositiveFloat | None = None  # events after which an amplitude has halved
    signed: bool = False  # negative amplitudes are allowed, and make columns of their own
    normalised: bool = True  # amplitudes of a history sum to 1
    seed: int = 0  # of random directions and of long histories' points

    @model_validator(mode="after")
    def _fits(self) -> FieldConfig:
        if self.quantiles is not None:
            outside = [q for q in self.quantiles if not 0 <= q <= 1]
            if outside or list(self.quantiles) != sorted(self.quantiles, reverse=True):
                raise ValueError(f"quantiles must fall, within 0 and 1, not {self.quantiles}")
            if len(self.quantiles) != self.num_scales:
                raise ValueError(f"{len(self.quantiles)} quantiles for {self.num_scales} scales")
        weights = self.scale_weights
        if weights is not None:
            if len(weights) != self.num_scales:
                raise ValueError(f"{len(weights)} scale_weights for {self.num_scales} scales")
            if not 0 < sum(weights) < math.inf:
                raise ValueError(f"scale_weights must have a positive finite sum, not {weights}")
        return self


GUARDED = FieldConfig()
PUBLISHED = FieldConfig(waves="pca", guarded=False)


@dataclass(frozen=True)
class Scores:
    """What candidates receive.

    Attributes:
        by_scale: S_s. [B, C, S].
        total: their weighted sum, grown where it is negative. [B, C].
        silent: zero vectors, whose field is 0 where the config is guarded. bool [B, C].
        disliked: S_s of the sources with negative amplitude. [B, C, S], None unless signed.
    """

    by_scale: Tensor
    total: Tensor
    silent: Tensor
    disliked: Tensor | None = None


@dataclass(frozen=True)
class Field:
    """The fields of B viewers; made by `fit`.

    Attributes:
        config: what it was made by.
        histories: points and amplitudes.
        waves: unit rows. float64 [B, K, d].
        shares: of each wave in the field. float64 [B, K].
        scales: wavelengths, longest first. float64 [B, S].
        scale_weights: sum to 1. float64 [B, S].
        dimension: of each history.
        multiplier: of totals below 0. float64 [B].
        falls: -1 / 2λ², in the history's dtype. [S, B, 1, 1].
        columns: a history's side of the sum, per group of sources. [S, B, n, 2K] each.
    """

    config: FieldConfig
    histories: Histories
    waves: Tensor
    shares: Tensor
    scales: Tensor
    scale_weights: Tensor
    dimension: Dimension
    multiplier: Tensor
    falls: Tensor
    columns: tuple[Tensor, ...]

    @torch.no_grad()
    def score(self, candidates: Tensor) -> Scores:
        """The field at each candidate, each judged alone.

        Args:
            candidates: finite, of the history's dtype and device. [B, C, d].
        """
        at, silent = arrive(candidates, self.histories)
        phases = self._phases(at)
        waves = phases.new_empty(
            len(self.columns), len(self.falls), *candidates.shape[:2], self.columns[0].shape[3]
        )
        for scale, envelope in enumerate(self._envelopes(at)):
            for group, columns in enumerate(self.columns):
                if envelope is None:
                    waves[group, scale] = columns[scale].sum(1, keepdim=True)
                else:
                    torch.bmm(envelope, columns[scale], out=waves[group, scale])
        received = waves.mul_(phases).sum(4).permute(0, 2, 3, 1)  # [groups, B, C, S]
        if self.config.guarded:
            received = received.masked_fill(silent[None, :, :, None], 0.0)
        disliked = received[1] if self.config.signed else None
        return Scores(received[0], self.total(received[0]), silent, disliked)

    def total(self, by_scale: Tensor) -> Tensor:
        """The weighted sum over scales [B, C, S] -> [B, C], grown where it is negative."""
        total = (by_scale @ self.scale_weights.to(by_scale.dtype)[:, :, None])[:, :, 0]
        grown = total * self.multiplier.to(total.dtype)[:, None]
        return torch.where(total < 0, grown, total)

    @torch.no_grad()
    def parts(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """What adds to the field and what takes from it: sums over the posts of either sign.

        Returns:
            Constructive (≥ 0) and destructive (≤ 0), which sum to `by_scale`. [B, C, S] each.
        """
        at, silent = arrive(candidates, self.histories)
        phases = self._phases(at)
        adds, takes = [], []
        for scale, envelope in enumerate(self._envelopes(at)):
            columns = self.columns[0][scale].mT
            terms = phases[scale].expand(*candidates.shape[:2], -1) @ columns  # [B, C, n]
            if envelope is not None:
                terms *= envelope
            if self.config.guarded:
                terms.masked_fill_(silent[:, :, None], 0.0)
            adds.append(terms.clamp(min=0).sum(2))
            takes.append(terms.clamp_(max=0).sum(2))
        return torch.stack(adds, 2), torch.stack(takes, 2)

    def _phases(self, at: Tensor) -> Tensor:
        """Candidates' side of the sum, for centred candidates: [S, B, C, 2K]."""
        dtype = self.histories.dtype
        if not self.config.phase:
            return torch.ones(len(self.falls), 1, 1, 1, dtype=dtype, device=at.device)
        return phase_columns((at @ self.waves.mT) / self.scales.T[:, :, None, None], dtype)

    def _envelopes(self, at: Tensor) -> Iterator[Tensor | None]:
        """Per scale [B, C, n], in one buffer: each is gone when the next one comes."""
        if not self.config.envelope:
            yield from [None] * len(self.falls)
            return
        # |x|² + |y|² - 2 x·y as one product.
        ones = at.new_ones(*at.shape[:2], 1)
        squares = torch.linalg.vecdot(at, at)[:, :, None]
        distance = torch.cat((at, squares, ones), 2) @ self.histories.beside
        distance = distance.to(self.histories.dtype).clamp_min_(0)
        buffer = torch.empty_like(distance)
        for fall in self.falls:
            yield torch.mul(distance, fall, out=buffer).exp_()


@torch.no_grad()
def fit(
    history: Tensor,
    amplitudes: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    config: FieldConfig = GUARDED,
    waves: Tensor | None = None,
    seeds: Sequence[int] | None = None,
) -> Field:
    """Make the fields of histories.

    Nothing depends on padding or on who else is in the batch. A viewer without history has a
    field of 0.

    Args:
        history: posts' vectors, oldest first, padding last. float32 or float64 [B, n, d].
        amplitudes: of each, not negative unless `config.signed`; None = 1. [B, n].
        lengths: how many posts are real; None = all. int64 [B].
        config: of the field.
        waves: wave vectors instead of the config's, made unit rows. [K, d] or [B, K, d].
        seeds: one a viewer instead of `config.seed`.

    Raises:
        ValueError: shapes do not fit, values are not finite, amplitudes are negative or all 0.
    """
    histories = read(
        history,
        amplitudes,
        lengths,
        signed=config.signed,
        drop_zeros=config.guarded,
        half_life=config.half_life,
        normalised=config.normalised,
    )
    points, lengths = histories.points, histories.lengths
    seeds = [config.seed] if seeds is None else seeds
    if len(seeds) not in (1, len(points)):
        raise ValueError(f"seeds: expected one, or one for each of {len(points)} viewers")
    dimension = two_nn(points, lengths, guarded=config.guarded, seeds=seeds)
    directions, shares = _waves(histories, config, waves, seeds)
    return assemble(
        config,
        histories,
        directions,
        shares,
        _wavelengths(histories, config),
        dimension,
    )


def assemble(
    config: FieldConfig,
    histories: Histories,
    waves: Tensor,
    shares: Tensor,
    scales: Tensor,
    dimension: Dimension,
    weights: Tensor | None = None,
) -> Field:
    """A field of waves, scales and a dimension that are known already; see `Field`."""
    if weights is None:
        weights = scale_weights(dimension.ratio, config)
    multiplier = 1 + config.destructive_gain * (1 - dimension.ratio)
    wavelengths = scales.T[:, :, None, None]
    falls = (-0.5 / wavelengths.square()).to(histories.dtype)
    turns = (histories.points @ waves.mT) / wavelengths  # [S, B, n, K]
    columns = []
    for amplitudes in histories.groups:
        sent = 2 * amplitudes[:, :, None] * shares[:, None, :]
        if config.phase:
            sent = torch.cat((sent, sent), 2) * phase_columns(turns, torch.float64)
        else:
            sent = sent.sum(2, keepdim=True).expand(len(turns), -1, -1, -1)
        columns.append(sent.to(histories.dtype).contiguous())
    return Field(
        config,
        histories,
        waves,
        shares,
        scales,
        weights,
        dimension,
        multiplier,
        falls,
        tuple(columns),
    )


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


def hybrid(relevance: Tensor, field: Tensor, alpha: float) -> Tensor:
    """Relevance plus α times the field.

    Raises:
        ValueError: shapes differ, values are not finite, or α is negative.
    """
    if relevance.shape != field.shape:
        raise ValueError(
            f"field: expected relevance's shape {tuple(relevance.shape)}, got {tuple(field.shape)}"
        )
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha: expected a finite number, at least 0, got {alpha}")
    if not (torch.isfinite(relevance).all() and torch.isfinite(field).all()):
        raise ValueError("relevance and field must be finite")
    return relevance + alpha * field


def phase_columns(turns: Tensor, dtype: torch.dtype) -> Tensor:
    """Cosines, then sines, of whole turns in float64: [..., K] -> [..., 2K].

    Whole turns are dropped before rounding to `dtype`, so that many of them cost no precision.
    """
    angle = (turns - turns.round()).to(dtype).mul_(2 * math.pi)
    return torch.cat((angle.cos(), angle.sin()), -1)


def _waves(
    histories: Histories, config: FieldConfig, waves: Tensor | None, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
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


def _wavelengths(histories: Histories, config: FieldConfig) -> Tensor:
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

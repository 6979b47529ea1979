"""The interference field: every post of a history sends waves, and a candidate adds them up.

    S_s(q) = 2 sum_i w_i exp(-|q - p_i|² / 2 λ_s²) (1/K) sum_k cos(2π k·(q - p_i) / λ_s)

Since cos(a - b) = cos a cos b + sin a sin b, the sum over i is one product of the envelopes
[C, n] with the history's columns [n, 2K], and candidates meet it with their own columns
[C, 2K]: nothing of size C·n·K or C·n·d exists. Where a wavelength is half the one before, its
envelope is the other's fourth power. Phases are computed in float64, and distances where float32
would not do; the rest in the history's dtype.

Axes: B viewers, n points of a history, C candidates, d width, K waves, S scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.models.fractal.combination import combined, scale_weights, suppression
from train.models.fractal.config import GUARDED, FieldConfig
from train.models.fractal.dimension import Dimension, two_nn
from train.models.fractal.histories import Histories, arrive, read
from train.models.fractal.waves import wave_vectors, wavelengths

_ANEW = 3  # scales of which one envelope is an exponential and the others its powers
_ROUNDED = 16.0  # largest |x|² / 2λ² whose rounding in float32 does not matter


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
        halving: whether each wavelength is half the one before.
        most_short: |q|² of candidates below which float32 does for distances, q counted from the
            histories' centres. float64 [B, 1], None = never.
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
    halving: bool
    most_short: Tensor | None
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
        received = waves.mul_(phases).sum(4)
        if self.config.guarded:
            received.masked_fill_(silent, 0.0)
        received = received.permute(0, 2, 3, 1)  # [groups, B, C, S]
        disliked = received[1] if self.config.signed else None
        return Scores(received[0], self.total(received[0]), silent, disliked)

    def total(self, by_scale: Tensor) -> Tensor:
        """The weighted sum over scales [B, C, S] -> [B, C], grown where it is negative."""
        return combined(by_scale, self.scale_weights, self.multiplier)

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
            adds.append(terms.clamp(min=0).sum(2))
            takes.append(terms.clamp_(max=0).sum(2))
        parts = torch.stack(adds, 2), torch.stack(takes, 2)
        if self.config.guarded:
            for part in parts:
                part.masked_fill_(silent[:, :, None], 0.0)
        return parts

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
        distance = self._distances(at)
        envelope = torch.empty_like(distance)
        for scale, fall in enumerate(self.falls):
            if self.halving and scale % _ANEW:
                envelope.square_().square_()
            else:
                torch.mul(distance, fall, out=envelope).exp_()
            yield envelope

    def _distances(self, at: Tensor) -> Tensor:
        """Squared, of centred candidates and the history's points, at least 0. [B, C, n]."""
        points, squares, of_at = self.histories.points, self.histories.squares, at.square().sum(2)
        if self.most_short is not None and (of_at < self.most_short).all():
            at, of_at, points, squares = (x.float() for x in (at, of_at, points, squares))
        # |y|² - 2 x·y + |x|².
        distance = torch.baddbmm(squares, at, points.mT, alpha=-2).add_(of_at[:, :, None])
        return distance.to(self.histories.dtype).clamp_min_(0)


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
    directions, shares = wave_vectors(histories, config, waves, seeds)
    scales = wavelengths(histories, config)
    return assemble(config, histories, directions, shares, scales, dimension)


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
    points = histories.points
    multiplier = suppression(dimension.ratio, config)
    wavelengths = scales.T[:, :, None, None]
    falls = (-0.5 / wavelengths.square()).to(histories.dtype)
    most_short = None
    if histories.dtype == torch.float32 and points.shape[1]:
        # Sums are off by a share of what is added up, and envelopes by that times -fall.
        most_short = 2 * _ROUNDED * scales.square().amin(1, keepdim=True)
        most_short = most_short - histories.squares.amax(2)
    turns = (points @ waves.mT) / wavelengths  # [S, B, n, K]
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
        torch.equal(scales[:, :-1], 2 * scales[:, 1:]),
        most_short,
        tuple(columns),
    )


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

"""A history's field as sums of random Fourier features.

A candidate costs the same however long the history is, and one event more or less changes the
sums alone.

The kernel of scale s is the mean of cos(ω·(q - p)) over ω = (2π k + z) / λ_s, k a wave vector
and z normal (Rahimi & Recht 2007). M draws stand for all of them, so errors are about 1/√M of
what the largest field can be, at every scale. At short wavelengths the field itself is smaller
than that: those stay exact, see `mixed`.

Axes: B viewers, n points of a history, C candidates, d width, K waves, S scales, M draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from train.models.fractal.field import Field, Scores, phase_columns


@dataclass(frozen=True)
class FourierBasis:
    """Draws that all viewers share, so that a candidate's features are computed once for all.

    Attributes:
        draws: 2π k + z, in turns. float64 [M, d].
        scales: wavelengths. float64 [S].
    """

    draws: Tensor
    scales: Tensor

    def features(self, points: Tensor) -> Tensor:
        """Cosines, then sines: [..., d] -> [..., S, 2M], of the points' dtype."""
        turns = points.double() @ self.draws.mT
        return phase_columns(turns[..., None, :] / self.scales[:, None], points.dtype)


@dataclass(frozen=True)
class FourierState:
    """Histories as sums over their events.

    Attributes:
        sums: of amplitude times features. float64 [B, S, 2M].
        amplitude: sum of the amplitudes. float64 [B].
    """

    sums: Tensor
    amplitude: Tensor

    def add(self, basis: FourierBasis, points: Tensor, amplitudes: Tensor) -> FourierState:
        """With one event more for each viewer; a negative amplitude takes it back.

        Args:
            basis: as for the other events.
            points: [B, d].
            amplitudes: 0 = no event. [B].
        """
        features = basis.features(points.double())
        weights = amplitudes.double()
        sums = torch.addcmul(self.sums, features, weights[:, None, None])
        return FourierState(sums, self.amplitude + weights)

    def decay(self, num_events: Tensor | float, half_life: float) -> FourierState:
        """All amplitudes aged by so many events, [B] or one number for all."""
        age = torch.as_tensor(num_events, dtype=torch.float64, device=self.sums.device)
        kept = (0.5 ** (age / half_life)).expand(len(self.amplitude))
        return FourierState(self.sums * kept[:, None, None], self.amplitude * kept)

    def score(self, features: Tensor) -> Tensor:
        """The field by scale at candidates with these features.

        Args:
            features: of candidates, [C, S, 2M] for all viewers or [B, C, S, 2M].

        Returns:
            [B, C, S], of the features' dtype; 0 for a viewer without events.
        """
        M = features.shape[-1] // 2
        scale = torch.where(self.amplitude > 0, 2 / (M * self.amplitude), 0.0)
        sums = (self.sums * scale[:, None, None]).to(features.dtype)
        if features.ndim == 3:  # one product per scale, of all viewers
            return (features.transpose(0, 1) @ sums.permute(1, 2, 0)).permute(2, 1, 0)
        return torch.einsum("bcsm,bsm->bcs", features, sums)


def fourier_basis(
    waves: Tensor, scales: Tensor, num_draws: int = 1024, seed: int = 0
) -> FourierBasis:
    """Draw a basis for wave vectors [K, d] and wavelengths [S], the same for all viewers.

    Draws come in turn for each wave, and in blocks of d at right angles, which errs less than
    drawing each alone (Yu et al. 2016, arXiv:1610.09072).

    Raises:
        ValueError: shapes, or fewer draws than waves.
    """
    if waves.ndim != 2 or scales.ndim != 1 or not (scales > 0).all():
        raise ValueError(
            f"expected waves [K, d] and positive scales [S], got {tuple(waves.shape)} and {scales}"
        )
    K, d = waves.shape
    if num_draws < K:
        raise ValueError(f"num_draws: expected at least one for each of {K} waves, got {num_draws}")
    random = np.random.default_rng(seed)
    blocks = []
    for _ in range(math.ceil(num_draws / d)):
        directions, _ = np.linalg.qr(random.standard_normal((d, d)))
        lengths = np.linalg.norm(random.standard_normal((d, d)), axis=1, keepdims=True)
        blocks.append(directions.T * lengths)
    normals = torch.from_numpy(np.concatenate(blocks)[:num_draws]).to(waves.device)
    draws = waves.double()[torch.arange(num_draws, device=waves.device) % K]
    return FourierBasis(draws + normals / (2 * math.pi), scales.double())


def fourier_state(basis: FourierBasis, field: Field) -> FourierState:
    """The sums of whole histories: those of `field`, whose points are counted from its centre."""
    histories = field.histories
    points = histories.points + histories.centre[:, None]
    amplitudes = histories.groups[0]
    sums = torch.einsum("bn,bnsm->bsm", amplitudes, basis.features(points))
    return FourierState(sums, amplitudes.sum(1))


def mixed(field: Field, state: FourierState, features: Tensor, candidates: Tensor) -> Scores:
    """The longest wavelengths by features, the others exactly.

    Args:
        field: of the same waves and wavelengths as the features'.
        state: of the longest wavelengths alone.
        features: of the candidates at those, [C, R, 2M] or [B, C, R, 2M].
        candidates: [B, C, d].
    """
    near = state.score(features)
    num = near.shape[2]
    rest = replace(
        field,
        scales=field.scales[:, num:],
        falls=field.falls[num:],
        columns=tuple(columns[num:] for columns in field.columns),
        scale_weights=field.scale_weights[:, num:],
    )
    exact = rest.score(candidates)
    if field.config.guarded:
        near = near.masked_fill(exact.silent[:, :, None], 0.0)
    by_scale = torch.cat((near, exact.by_scale), 2)
    return Scores(by_scale, field.total(by_scale), exact.silent)


@dataclass(frozen=True)
class FourierError:
    """How far features are from the exact field, per scale. float64 [S] each.

    Attributes:
        rms: root mean square of the differences.
        spread: standard deviation of the exact field, over candidates.
        correlation: of both, mean over viewers; nan where the exact field is flat.
    """

    rms: Tensor
    spread: Tensor
    correlation: Tensor

    def accurate(self, least: float = 0.95) -> int:
        """How many of the longest wavelengths have at least this correlation."""
        good = (self.correlation >= least).tolist()
        return good.index(False) if False in good else len(good)


def fourier_error(by_features: Tensor, exact: Tensor) -> FourierError:
    """Compare fields by scale, [B, C, S] each."""
    ours, theirs = by_features.double(), exact.double()
    apart = (ours - theirs).square().mean((0, 1)).sqrt()
    ours, theirs = ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdim=True)
    spread = theirs.square().mean(1).sqrt()
    correlation = (ours * theirs).mean(1) / (spread * ours.square().mean(1).sqrt())
    return FourierError(apart, spread.mean(0), correlation.mean(0))

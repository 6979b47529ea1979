"""Random Fourier features stand for the exact field, and follow events one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.models.test_field import unit
from train.models.fractal.config import FieldConfig
from train.models.fractal.field import Field, fit
from train.models.fractal.fourier import (
    FourierState,
    fourier_basis,
    fourier_error,
    fourier_state,
    mixed,
)

few = settings(max_examples=8, deadline=None)


def made(seed: int, n: int = 20, d: int = 6) -> tuple[Field, torch.Tensor]:
    """Fields of two viewers, and candidates of both."""
    random = np.random.default_rng(seed)
    history = torch.from_numpy(np.stack([unit(random, n, d) for _ in range(2)]))
    amplitudes = torch.from_numpy(random.uniform(0.2, 2, (2, n)))
    config = FieldConfig(base_scale=2.5, num_scales=3, normalised=False)
    lengths = torch.tensor([n, n - 3])
    return fit(history, amplitudes, lengths, config=config), torch.from_numpy(unit(random, 30, d))


@few
@given(st.integers(0, 1000))
def test_events_one_by_one_are_the_whole_history(seed):
    """Adding events, taking some back and ageing all gives the sums computed anew."""
    field, _ = made(seed)
    basis = fourier_basis(field.waves[0], field.scales[0], 32)
    histories = field.histories
    points = histories.points + histories.centre[:, None]
    amplitudes = histories.groups[0]
    state = FourierState(torch.zeros(2, 3, 64).double(), torch.zeros(2).double())

    for at in range(points.shape[1]):
        state = state.add(basis, points[:, at] + 1, 3 * amplitudes[:, at])
        state = state.add(basis, points[:, at], amplitudes[:, at])
        state = state.add(basis, points[:, at] + 1, -3 * amplitudes[:, at])

    whole = fourier_state(basis, field)
    torch.testing.assert_close(state.sums, whole.sums, atol=1e-11, rtol=0)
    torch.testing.assert_close(state.amplitude, whole.amplitude, atol=1e-11, rtol=0)
    aged = state.decay(torch.tensor([2.0, 0.0]), half_life=2.0)
    torch.testing.assert_close(aged.sums[0], whole.sums[0] / 2, atol=1e-11, rtol=0)
    torch.testing.assert_close(aged.sums[1], whole.sums[1], atol=1e-11, rtol=0)


def test_more_draws_err_less():
    """The error at long wavelengths falls as one over the root of the draws."""
    field, candidates = made(1)
    both = candidates.expand(2, -1, -1)
    exact = field.score(both).by_scale / field.histories.groups[0].sum(1)[:, None, None]
    errors = []
    for num_draws in (64, 4096):
        basis = fourier_basis(field.waves[0], field.scales[0], num_draws)
        features = basis.features(candidates)
        found = fourier_state(basis, field).score(features)
        errors.append(fourier_error(found, exact))

    few_draws, many = errors
    assert many.rms.norm() < few_draws.rms.norm() / 3
    assert (many.correlation[:2] > 0.95).all()
    assert few_draws.accurate(0.999) <= many.accurate(0.9)


def test_features_for_each_viewer_are_those_for_all():
    """Candidates shared by all viewers score as the same ones given to each."""
    field, candidates = made(2)
    basis = fourier_basis(field.waves[0], field.scales[0], 48)
    features, state = basis.features(candidates), fourier_state(basis, field)

    torch.testing.assert_close(state.score(features), state.score(features.expand(2, -1, -1, -1)))


def test_short_wavelengths_stay_exact():
    """A mixed field is exact above the features' scales, and zero vectors receive nothing."""
    field, candidates = made(3)
    candidates[4] = 0
    both = candidates.expand(2, -1, -1)
    basis = fourier_basis(field.waves[0], field.scales[0, :2], 4096)

    scores = mixed(field, fourier_state(basis, field), basis.features(candidates), both)

    exact = field.score(both)
    torch.testing.assert_close(scores.by_scale[:, :, 2], exact.by_scale[:, :, 2])
    assert (scores.by_scale[:, 4] == 0).all()
    assert scores.total.shape == exact.total.shape


def test_bad_bases_are_refused():
    """Fewer draws than waves, or wavelengths that are none, are refused."""
    waves = torch.eye(4)
    with pytest.raises(ValueError, match="num_draws: expected at least one for each of 4"):
        fourier_basis(waves, torch.ones(2), 3)
    with pytest.raises(ValueError, match="positive scales"):
        fourier_basis(waves, torch.tensor([-1.0]))

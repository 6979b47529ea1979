"""The field at its limits: short waves, more waves than width, old posts, and a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.models import field_oracle as oracle
from tests.train.models.test_field import GATES, batch, histories, unit
from train.models.fractal.config import FieldConfig
from train.models.fractal.field import fit


@pytest.mark.parametrize("dtype", GATES)
def test_the_shortest_wavelengths_there_can_be(dtype):
    """At its posts a field of the smallest settings is a number, and 1 apart it is nothing."""
    history = torch.eye(4, dtype=dtype)[None]
    config = FieldConfig(num_scales=32, base_scale=1e-6)

    by_scale = fit(history, config=config).score(history).by_scale

    torch.testing.assert_close(by_scale, torch.full_like(by_scale, 0.5))


def test_near_posts_of_short_waves_are_told_apart():
    """Where float32 rounds distances to nothing they are computed in float64."""
    random = np.random.default_rng(8)
    history = torch.from_numpy(unit(random, 40, 8)).float()
    near = history + 0.003 * torch.from_numpy(unit(random, 40, 8)).float()
    config = FieldConfig(base_scale=0.05)
    field = fit(history[None], config=config)

    for found in (field.score(near[None]).by_scale, sum(field.parts(near[None]))):
        plain = history.double().numpy(), np.ones(40), near.double().numpy()
        expected = oracle.by_scale(*plain, field.waves[0].numpy(), field.scales[0].numpy())
        np.testing.assert_allclose(found[0], expected, atol=GATES[torch.float32], rtol=0)


def test_principal_waves_beyond_the_width_are_random_ones():
    """Of d directions there are no more; the K - d others are drawn, whatever the length."""
    random = np.random.default_rng(6)
    rows = [random.normal(size=(n, 3)) for n in (2, 3, 20)]
    history, lengths = batch(rows, torch.float64)

    field = fit(history, lengths=lengths, config=FieldConfig(waves="pca", num_waves=5))

    for at, row in enumerate(rows):
        num = min(len(row), 3)
        drawn = np.random.default_rng(0).standard_normal((5 - num, 3))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        np.testing.assert_allclose(field.waves[at, num:], drawn, atol=1e-12)
        _, sizes, directions = np.linalg.svd(row - row.mean(0), full_matrices=False)
        same = np.abs((field.waves[at, :num].numpy() * directions[:num]).sum(1))
        np.testing.assert_allclose(same[sizes > 1e-9], 1, atol=1e-9)
        np.testing.assert_allclose(field.shares[at], 0.2)


def test_older_posts_send_less():
    """An amplitude halves with every half-life of newer posts: the last post sends whole."""
    random = np.random.default_rng(7)
    rows = [unit(random, n, 4) for n in (5, 9)]
    history, lengths = batch(rows, torch.float64)
    candidates = torch.from_numpy(np.stack([unit(random, 6, 4)] * 2))
    plain = FieldConfig(normalised=False, base_scale=1.0)
    ages = [0.5 ** (np.arange(len(row))[::-1] / 2.5) for row in rows]

    faded = fit(history, lengths=lengths, config=plain.model_copy(update={"half_life": 2.5}))
    by_hand = fit(history, batch(ages, torch.float64)[0], lengths, config=plain)

    expected = by_hand.score(candidates).by_scale
    torch.testing.assert_close(faded.score(candidates).by_scale, expected, atol=1e-12, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", GATES)
@pytest.mark.parametrize("config", [FieldConfig(), FieldConfig(waves="pca", guarded=False)])
def test_a_gpu_scores_as_the_cpu(dtype, config):
    """Histories of every kind in one padded batch: scores, parts and dimension."""
    random = np.random.default_rng(9)
    # Without those whose principal directions no variance tells apart.
    rows = [row for name, row in histories().items() if name != "collinear"]
    history, lengths = batch(rows, dtype)
    candidates = torch.from_numpy(np.stack([unit(random, 7, 6) for _ in rows])).to(dtype)

    there, here = (
        fit(history.to(device), lengths=lengths.to(device), config=config)
        for device in ("cuda", "cpu")
    )

    expected = here.score(candidates)
    found, parts = there.score(candidates.cuda()), there.parts(candidates.cuda())
    for ours, theirs in (
        (found.total, expected.total),
        (found.by_scale, expected.by_scale),
        (sum(parts), expected.by_scale),
        (there.dimension.value, here.dimension.value),
    ):
        torch.testing.assert_close(ours.cpu(), theirs, atol=GATES[dtype], rtol=0)

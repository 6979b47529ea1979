"""The field as a ranker, and what stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.interference.mlp import MlpConfig, mlp
from train.interference.rankers import KERNEL, beside, cosine, dot, field, nearest
from train.interference.ratings import made
from train.interference.spaces import FactorConfig, factors, unit
from train.interference.split import Split
from train.models.fractal.config import GUARDED, FieldConfig
from train.models.fractal.field import fit

NUM_POSTS = 60


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Two clusters of unit vectors, even and odd posts; the last post has none."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(2, 8))
    found = unit(centre[np.arange(NUM_POSTS) % 2] + 0.3 * rng.normal(size=(NUM_POSTS, 8)))
    found[-1] = 0
    return found


@pytest.fixture(scope="module")
def split() -> Split:
    """Viewers of 5 and 9 even posts, asked for even ones, odd ones and the one without a vector."""
    history = np.full((2, 9), -1)
    history[0, :5], history[1] = np.arange(0, 10, 2), np.arange(0, 18, 2)
    amplitude = np.where(history >= 0, 1.0, 0.0)
    amplitude[:, 0] = 2.0
    candidates = np.tile(np.array([20, 21, 22, 23, 24, 25, 59]), (2, 1))
    hit = candidates % 2 == 0
    none = np.zeros(NUM_POSTS, int)
    return Split(
        np.ones(0, bool), np.arange(2), history, amplitude, candidates, hit, none, none == 0
    )


def test_all_rank_what_is_like_the_history_first(vectors, split):
    """On planted tastes the field and everything beside it put the viewer's kind first."""
    scores = {name: of() for name, of in beside(vectors, split).items()}
    scores["field"] = field(vectors, split, FieldConfig(num_waves=64)).total()
    scores["product"] = dot(vectors, split)
    for name, of in scores.items():
        assert of[:, :6][split.hit[:, :6]].min() > of[:, :6][~split.hit[:, :6]].max(), name


def test_a_batch_is_its_viewers_alone(vectors, split):
    """Fields of padded histories are those of each history by itself."""
    found = field(vectors, split, GUARDED)
    for at, length in enumerate(split.lengths):
        history = torch.from_numpy(vectors[split.history[at, :length]])[None]
        alone = fit(history, torch.from_numpy(split.amplitude[at, :length])[None], config=GUARDED)
        scores = alone.score(torch.from_numpy(vectors[split.candidates[at]])[None])
        np.testing.assert_allclose(found.by_scale[at], scores.by_scale[0], atol=1e-12)
        np.testing.assert_allclose(found.total()[at], scores.total[0], atol=1e-12)


def test_fewer_scales_have_the_first_scales_weights(vectors, split):
    """A total of S scales is that of a field of S scales, which weighs by their number."""
    found = field(vectors, split, GUARDED)
    for num in (1, 2, 3):
        fewer = field(vectors, split, GUARDED.model_copy(update={"num_scales": num}))
        np.testing.assert_allclose(found.total(num), fewer.total())
        np.testing.assert_allclose(found.weights(num).sum(1), 1)


@pytest.mark.parametrize("gain", [0.0, 0.3, 5.0])
def test_suppression_changes_no_order(vectors, split, gain):
    """Whatever η is, candidates stand in the same order: it multiplies what is below 0."""
    settings = {"num_waves": 2, "base_scale": 0.5, "envelope": False}
    plain = field(vectors, split, FieldConfig(**settings, destructive_gain=0.75)).total()
    found = field(vectors, split, FieldConfig(**settings, destructive_gain=gain)).total()
    assert (plain < 0).any()
    np.testing.assert_array_equal(np.argsort(-plain), np.argsort(-found))


def test_guarded_fields_pass_over_posts_without_a_vector(vectors, split):
    """A post without a vector has no field where it is guarded, and the nearest where not."""
    assert (field(vectors, split, KERNEL).total()[:, -1] == 0).all()
    unguarded = KERNEL.model_copy(update={"guarded": False})
    assert (field(vectors, split, unguarded).total()[:, -1] > 0).all()


def test_nearest_is_the_mean_of_the_nearest(vectors, split):
    """Of one it is the largest cosine, of the whole history the mean of all."""
    near = vectors[split.candidates[0]] @ vectors[split.history[0, :5]].T
    np.testing.assert_allclose(nearest(vectors, split, 1)[0], near.max(1))
    np.testing.assert_allclose(nearest(vectors, split, 99)[0], near.mean(1))


def test_cosine_is_to_the_weighted_mean(vectors, split):
    """Twice the amplitude counts as the post twice."""
    rows = split.history[0, :5]
    mean = (vectors[rows].sum(0) + vectors[rows[0]]) / 6
    wanted = vectors[split.candidates[0]] @ mean / np.linalg.norm(mean)
    np.testing.assert_allclose(cosine(vectors, split)[0], wanted)


def test_the_network_learns_the_planted_taste(vectors, split):
    """The learned baseline ranks the viewer's kind first, too."""
    found = mlp(vectors, split, MlpConfig(most_epochs=30, batch_size=8, lr=0.01))[:, :6]
    assert found[split.hit[:, :6]].mean() > found[~split.hit[:, :6]].mean()


def test_factors_of_neutral_posts_are_zero():
    """A post that everybody rated 3 ends at exactly 0, and its unit vector stays 0."""
    rng = np.random.default_rng(3)
    user, item = (x.ravel() for x in np.meshgrid(np.arange(12), np.arange(9)))
    value = np.where(item == 4, 3.0, np.where((user + item) % 2 == 0, 5.0, 1.0))
    ratings = made(user, item, value, rng.permutation(len(user)))
    learned = factors(ratings, np.ones(len(user), bool), FactorConfig(num_factors=4))
    assert (learned.item[4] == 0).all()
    assert (unit(learned.item)[4] == 0).all()
    predicted = learned.user @ learned.item.T
    assert np.corrcoef(predicted[user, item], value)[0, 1] > 0.95

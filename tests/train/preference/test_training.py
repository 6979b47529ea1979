"""Training: finds planted weights, keeps runs apart, and repeats the published figures."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.preference.planted import planted
from train.preference.losses import LOSSES
from train.preference.pairs import sample
from train.preference.protocol import synthetic_protocol
from train.preference.published import SYNTHETIC_ACCURACY, SYNTHETIC_COSINE
from train.preference.space import cosine
from train.preference.stakeholders import synthetic
from train.preference.training import FitConfig, accuracy, fit, learn, perturbed

SEEDS = (42, 142)


def test_learned_weights_point_where_the_true_ones_do():
    """From 1,500 pairs every stakeholder's direction is found."""
    space = planted()
    weights, right = learn(space, space.utility, 1_500, SEEDS)
    assert (cosine(weights, space.weights[None]) > 0.97).all()
    assert (right > 0.85).all()


def test_a_run_does_not_depend_on_the_others():
    """Learned alone, a seed's and a stakeholder's weights are what they are in the batch."""
    space = planted()
    together, _ = learn(space, space.utility, 200, SEEDS)
    alone, _ = learn(space, space.utility[1:2], 200, SEEDS[1:], labellers=[1])
    np.testing.assert_allclose(alone[0, 0], together[1, 1], rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_all_losses_give_numbers(loss):
    """Every loss learns finite weights, society's constrained ones and an even start among them."""
    space = synthetic.space(100, neutral=True)
    weights, right = learn(space, space.utility, 300, SEEDS, FitConfig(loss=loss))
    assert np.isfinite(weights).all()
    assert (right > 0.7).all()


def test_a_constrained_loss_needs_actions():
    """Where features are no actions, nothing can be negative, and that is said."""
    space = planted()
    with pytest.raises(ValueError, match="features of planted are no actions"):
        learn(space, space.utility, 50, SEEDS, FitConfig(loss="constrained"))


def test_a_constraint_keeps_negative_weights_low():
    """From a neutral start the user's negative weights end below 0 with the constraint."""
    space = synthetic.space(100, neutral=True)
    pairs = sample(-space.utility, 300, SEEDS)  # says the opposite of what is allowed
    free, bound = (
        fit(space, pairs, FitConfig(loss=loss))[:, 0][:, space.negative]
        for loss in ("bt", "constrained")
    )
    assert (free.mean(axis=1) > 0.2).all()
    assert (bound.mean(axis=1) < 0).all()


def test_steps_can_be_set_apart_from_pairs():
    """As many steps as asked for, whatever the pairs: the norm grows with steps alone."""
    space = planted()
    norms = [
        np.linalg.norm(
            learn(space, space.utility, 25, SEEDS, FitConfig(num_steps=steps))[0], axis=-1
        ).mean()
        for steps in (10, 400)
    ]
    assert norms[1] > 1.5 * norms[0]


def test_accuracy_counts_pairs_told_right():
    """The true weights tell all but what the noise turned; turned round they tell the rest."""
    space = planted()
    pairs = sample(space.utility, 500, SEEDS)
    true = np.broadcast_to(space.weights, (2, 3, 4))
    right, wrong = (accuracy(space.features, w, pairs) for w in (true, -true))
    assert (right > 0.9).all()
    np.testing.assert_allclose(right + wrong, 1)


def test_a_perturbation_is_one_of_a_seed():
    """All stakeholders of one seed are off by the same factors, those of another by others."""
    made = perturbed(np.ones((2, 4)), 0.3, SEEDS)
    np.testing.assert_array_equal(made[:, 0], made[:, 1])
    assert not np.allclose(made[0], made[1])


def test_the_published_figures_of_the_pool_come_out():
    """Accuracy to 0.002 and cosines to 0.005 of 2,500 pairs of the made-up pool."""
    found = synthetic_protocol(curve_seeds=(42,))
    for who, wanted in SYNTHETIC_ACCURACY.items():
        assert found["accuracy"][who] == pytest.approx(wanted, abs=0.002)
    for pair, wanted in SYNTHETIC_COSINE.items():
        assert found["cosine_learned"][pair] == pytest.approx(wanted, abs=0.005)
    assert found["cosine_true"]["user / platform"] == pytest.approx(0.8927, abs=1e-4)

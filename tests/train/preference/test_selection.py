"""Slates: as the plain greedy rule chooses them, and soft selection between its two ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.preference.planted import planted
from train.preference.selection import DELTAS, frontier, hard, slates, soft, sweep


def plainly(scores, topic, delta, num):
    """The rule as it is said: one item at a time among all that are left."""
    shown, left, chosen = {}, list(range(len(scores))), []
    for _ in range(num):
        values = [
            (1 - delta) * scores[item] + delta / (shown.get(topic[item], 0) + 1) for item in left
        ]
        best = left[int(np.argmax(values))]
        chosen.append(best)
        left.remove(best)
        shown[topic[best]] = shown.get(topic[best], 0) + 1
    return chosen


@given(st.integers(0, 10_000))
def test_slates_are_those_of_the_plain_rule(seed):
    """Looking at each topic's best alone changes nothing, nor do scores that are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (3, 40)) / 8.0  # exact in binary, with many ties
    topic = rng.integers(0, 4, 40)
    deltas = (0.0, 0.25, 0.5, 1.0)
    made = slates(scores, topic, deltas, num=6)
    for row, values in enumerate(scores):
        for at, delta in enumerate(deltas):
            assert made[row, at].tolist() == plainly(values, topic, delta, 6)


def test_a_pool_smaller_than_a_slate_is_refused():
    """No item is shown twice to fill a slate."""
    with pytest.raises(ValueError, match="a slate of 10 items from a pool of 4"):
        slates(np.zeros((1, 4)), np.zeros(4, int))


def test_soft_selection_ends_at_the_mean_and_at_the_best():
    """Hot, every item counts alike; cold, only the best does."""
    space = planted()
    scores = space.utility[0]
    np.testing.assert_allclose(
        soft(scores, space.utility, 1e6), space.utility.mean(axis=1), rtol=1e-4
    )
    best = space.utility[:, scores.argmax()]
    np.testing.assert_allclose(soft(scores, space.utility, 1e-6), best)


def test_soft_selection_survives_extreme_scores():
    """Scores whose exponential overflows still give shares."""
    assert np.isfinite(soft(np.array([1e6, -1e6, 0.0]), np.eye(3), 0.001)).all()


def test_the_ends_of_a_frontier():
    """Without diversity the slate is the ten best by score; the sweep is the frontier's mean."""
    space = planted()
    points = frontier(space, space.weights[:2])
    assert points.shape == (2, len(DELTAS), 3)
    ten = hard(space.weights[:2] @ space.features.T, space.utility)
    np.testing.assert_allclose(points[:, 0], 10 * ten)
    np.testing.assert_allclose(sweep(space, space.weights[:2]), points.mean(axis=1))
    assert points[0, 0, 0] == pytest.approx(points[0, :, 0].max())

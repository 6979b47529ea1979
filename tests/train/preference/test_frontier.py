"""Pareto sets and hypervolumes are exact, and regret says who loses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.preference.planted import planted
from tests.train.preference.shared_data import SHARED, needs_shared
from train.preference.frontier import (
    geometric_regret,
    hypervolume,
    pareto,
    regret_as_published,
    regret_interval,
)
from train.preference.published import GEOMETRIC
from train.preference.stakeholders import movielens


def test_a_beaten_point_goes_and_equal_points_are_one():
    """Points that another beats are out; of points equal up to rounding the first stays."""
    points = np.array([[1.0, 2.0], [2.0, 1.0], [0.5, 2.0], [2.0, 1.0 + 1e-15], [1.5, 1.5]])
    assert pareto(points).tolist() == [True, True, False, False, True]


def test_no_kept_point_is_beaten():
    """Every point left out is beaten by one kept, and no kept one by any."""
    points = np.random.default_rng(0).normal(size=(60, 4))
    kept = pareto(points)
    beats = (points[:, None] > points[None]).all(axis=2)
    assert not beats[:, kept].any()
    assert beats[kept][:, ~kept].any(axis=0).all()


@given(st.integers(0, 1_000), st.integers(1, 5))
def test_hypervolume_is_the_count_of_cells(seed, num_axes):
    """On a grid it is the number of unit cells that some point covers."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 5, (6, num_axes)).astype(float)
    cells = np.stack(np.meshgrid(*[np.arange(5)] * num_axes), axis=-1).reshape(-1, num_axes)
    covered = (points[:, None] >= cells[None] + 1).all(axis=2).any(axis=0).sum()
    assert hypervolume(points, np.zeros(num_axes)) == pytest.approx(covered)


def test_hypervolume_of_many_points_is_that_of_draws():
    """Of 300 points of five stakeholders it is the share of random draws that some point beats."""
    rng = np.random.default_rng(0)
    points = np.abs(rng.normal(size=(300, 5)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    draws = rng.uniform(0, 0.6, (20_000, 5))
    beaten = np.zeros(len(draws), bool)
    for point in points:
        beaten |= (draws <= point).all(axis=1)
    inside = hypervolume(np.minimum(points, 0.6), np.zeros(5))
    assert inside / 0.6**5 == pytest.approx(beaten.mean(), abs=0.012)


def test_points_below_the_reference_add_nothing():
    """A point that is no better than the reference in one respect has no volume."""
    assert hypervolume(np.array([[3.0, 0.0], [0.0, 3.0]]), np.zeros(2)) == 0


def test_regret_falls_on_the_one_who_differs():
    """Of a frontier made by the platform, leaving out its opposite costs that one most."""
    space = planted()
    found = geometric_regret(space, space.of_stakeholder("platform"))
    assert found["diversity"]["regret"] > found["user"]["regret"] >= 0
    assert found["platform"]["scorer"]


def test_rounding_can_only_move_regret_within_its_range():
    """The regret of distinct slates lies in the range that repeated slates can make."""
    space = planted(30)
    ranges = regret_interval(space, 1)
    for name, of in geometric_regret(space, 1).items():
        low, high = ranges[name]
        assert low - 1e-9 <= of["regret"] <= high + 1e-9


def test_regret_as_published_counts_without_tolerance():
    """It lies in the range that repeated slates can make, and is the same each time."""
    space = planted(30)
    ranges = regret_interval(space, 1)
    found = regret_as_published(space, 1)
    assert found == regret_as_published(space, 1)
    for name, value in found.items():
        low, high = ranges[name]
        assert low - 1e-9 <= value <= high + 1e-9


@needs_shared
def test_the_published_regrets_come_out():
    """ML-100K: summed as the published script sums, to 0.001; with distinct slates they do not.

    A BLAS that adds a film's genres one after another, as some do now and then, gives the others.
    """
    space = movielens.space("ml_100k", movielens.read_100k(SHARED)[0])
    scorer = space.of_stakeholder("platform")
    found = regret_as_published(space, scorer)
    published = GEOMETRIC["ml_100k"]
    others = published | {"user": 2.997, "platform": 4.794}
    assert any(found == pytest.approx(those, abs=0.001) for those in (published, others))
    for name, (low, high) in regret_interval(space, scorer).items():
        assert low - 0.001 <= published[name] <= high + 0.001
    assert geometric_regret(space, scorer)["user"]["regret"] < published["user"] - 0.1

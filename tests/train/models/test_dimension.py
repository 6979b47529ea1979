"""Dimensions of histories: the original's numbers, its faults mended, and known sets of points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.models import field_oracle as oracle
from train.models.fractal.dimension import Dimension, box_count, two_nn

LINE = np.stack([np.linspace(0, 1, 80)] * 2, 1)
GRID = np.stack(np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9)), -1).reshape(-1, 2)


def normal(n: int, d: int) -> np.ndarray:
    """Points [n, d] of seed 0."""
    return np.random.default_rng(0).normal(size=(n, d))


def uniform(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Points of the unit cube, [n, d]."""
    return np.random.default_rng(seed).uniform(size=(n, d))


def estimate(points: np.ndarray, guarded: bool = False) -> Dimension:
    """TwoNN of one history, as published unless guarded."""
    return two_nn(torch.from_numpy(points)[None], torch.tensor([len(points)]), guarded=guarded)


@pytest.mark.parametrize(
    ("points", "value"),
    [
        (LINE, 1.0),
        (GRID, 2.0),
        (normal(200, 5), 4.815031),
        (normal(500, 10), 9.766849),
        (uniform(400, 2), 1.969517),
        (uniform(1000, 3), 2.950952),
        (normal(2, 3), 1.0),
        (np.ones((7, 3)), 1.0),
        (np.repeat(normal(20, 3), 2, 0), 0.1),
    ],
)
def test_the_published_dimensions(points, value):
    """Published mode gives the original's numbers, its fault with doubled points among them."""
    assert float(estimate(points).value) == pytest.approx(value, abs=1e-6)


def test_doubled_points_count_once():
    """Guarded, points that are all there twice have the dimension that they have once."""
    points = normal(40, 3)

    once, twice = (estimate(p, guarded=True) for p in (points, np.repeat(points, 2, 0)))

    assert float(twice.slope) == pytest.approx(float(once.slope), rel=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.booleans())
def test_size_does_not_matter(seed, size, guarded):
    """Points made larger or smaller, and in a batch, have the oracle's dimension."""
    random = np.random.default_rng(seed)
    rows = [random.normal(size=(int(n), 4)) for n in random.integers(3, 30, 3)]
    padded = torch.full((3, 30, 4), torch.nan, dtype=torch.float64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = size * torch.from_numpy(row)

    lengths = torch.tensor([len(row) for row in rows])
    found = two_nn(padded.nan_to_num(7.0), lengths, guarded=guarded)

    expected = [oracle.two_nn(row) for row in rows]
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)


@pytest.mark.parametrize(("d", "part"), [(1, 0.1), (2, 0.1), (5, 0.1), (10, 0.2)])
def test_cubes_have_their_dimension(d, part):
    """2,000 points of a cube have its dimension within 10 %, in ten dimensions within 20 %."""
    found = [float(estimate(uniform(2000, d, seed), guarded=True).slope) for seed in (0, 4)]

    assert np.mean(found) == pytest.approx(d, rel=part)


def test_boxes_of_lines_and_squares():
    """A line and a square are told apart by their boxes, counted exactly."""
    scales = [2.0**-power for power in range(2, 7)]
    t = torch.linspace(0, 1, 2048, dtype=torch.float64)
    line = box_count(torch.stack((t, t), 1), scales)
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 64, dtype=torch.float64)] * 2)
    square = box_count(grid, scales)

    assert line.counts.tolist() == [4, 8, 16, 32, 64]
    assert square.counts.tolist() == [16, 64, 256, 1024, 4096]
    assert line.dimension == pytest.approx(1, abs=1e-9)
    assert square.dimension == pytest.approx(2, abs=1e-9)
    assert min(line.r_squared, square.r_squared) > 0.98


def test_boxes_of_one_place():
    """Equal points fill one box at every scale."""
    found = box_count(torch.ones(12, 3))

    assert found.dimension == 0
    assert found.r_squared == 1
    assert found.counts.tolist() == [1] * 8


@pytest.mark.parametrize(
    ("points", "scales", "message"),
    [
        (torch.ones(3), None, "2D"),
        (torch.ones(0, 2), None, "at least one"),
        (torch.full((3, 2), torch.nan), None, "finite"),
        (torch.ones(3, 2), [0.5, 0.0], "positive"),
        (torch.ones(3, 2), [0.5], "two or more"),
    ],
)
def test_bad_boxes_are_refused(points, scales, message):
    """Points and scales that cannot be counted are refused by name."""
    with pytest.raises(ValueError, match=message):
        box_count(points, scales)

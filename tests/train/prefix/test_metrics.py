"""Measures of prefixes against values worked out by hand, and what holds for any curves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.prefix import metrics

CURVE = st.lists(st.floats(0, 1), min_size=4, max_size=4)


def vectors(*angles: float) -> torch.Tensor:
    """Unit vectors in the plane, angles in degrees."""
    radians = torch.tensor(angles, dtype=torch.float32).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


@given(CURVE, CURVE)
def test_gap_is_s(coarse, fine):
    """The gap formula is S in another order."""
    s = metrics.s_orig(coarse, fine)
    assert metrics.s_gap(coarse, fine) == pytest.approx(s, abs=1e-12)


@given(st.floats(0, 1), st.floats(0, 1))
def test_constant_curves_steer_nothing(coarse, fine):
    """Prefixes that are all alike have S 0, and every step counts as right."""
    found = metrics.steerability([coarse] * 4, [fine] * 4)
    assert found == pytest.approx({"s": 0, "s_auc": 0, "s_gap": 0, "s_mono": 1})


def test_steerability_by_hand():
    """S, its area and its steps of one pair of curves."""
    coarse, fine = [0.9, 0.92, 0.8, 0.7], [0.3, 0.5, 0.4, 0.8]
    assert metrics.s_orig(coarse, fine) == pytest.approx(0.2 + 0.5)
    # j = 2: -0.02 + 0.2, j = 3: 0.1 + 0.1, j = 4: 0.2 + 0.5
    assert metrics.s_auc(coarse, fine) == pytest.approx((0.18 + 0.2 + 0.7) / 3)
    assert metrics.s_mono(coarse, fine) == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="two or more"):
        metrics.s_orig([0.5], [0.5])


def test_zoom_by_hand():
    """Each pair of levels is judged between prefixes of its own."""
    found = metrics.zoom([[0.9, 0.8, 0.7, 0.6], [0.5, 0.6, 0.6, 0.7], [0.1, 0.2, 0.3, 0.4]])
    assert found["s_02"] == pytest.approx(0.3 + 0.3)
    assert found["s_01"] == pytest.approx(0.1 + 0.1)
    assert found["s_12"] == pytest.approx(-0.1 + 0.2)
    assert found["zoom_score"] == 1  # the middle level rises, so the second step is none


def test_a_tie_goes_to_the_lowest_label():
    """Two votes against two, and one for a third: the lower of the two wins."""
    neighbours = np.array([[3, 3, 1, 1, 2]])
    assert metrics.knn_hits(neighbours, np.array([1]))[0]
    assert not metrics.knn_hits(neighbours, np.array([3]))[0]


def test_a_text_is_not_its_own_neighbour():
    """In a pool a text is left out; training texts are all there."""
    x = vectors(0, 10, 90)
    np.testing.assert_array_equal(metrics.neighbours(metrics.cosines(x), 1)[:, 0], [1, 0, 1])
    np.testing.assert_array_equal(metrics.neighbours(metrics.cosines(x, x), 1)[:, 0], [0, 1, 2])


def test_r_precision_by_hand():
    """Of three fellows' two, one is nearer than the stranger."""
    near = metrics.cosines(vectors(0, 10, 20, 60, 70))
    truth = np.array([0, 0, 1, 0, 2])
    # Text 0: nearest two of R = 2 are 1 (fellow) and 2; text 3: 4 and 2; label 1 and 2 are alone.
    found = metrics.r_precision(near, truth)
    np.testing.assert_allclose(found, [0.5, 0.5, np.nan, 0, np.nan])


@given(st.integers(0, 10_000), st.integers(6, 40), st.integers(1, 4))
def test_r_precision_is_that_of_a_ranking(seed, num, num_labels):
    """Selecting the R-th nearest gives what sorting all keys gives."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(num, 5)).astype(np.float32))
    truth = rng.integers(num_labels, size=num)
    near = metrics.cosines(x)
    for row, value in enumerate(metrics.r_precision(near, truth)):
        num_same = int((truth == truth[row]).sum()) - 1
        if not num_same:
            assert np.isnan(value)
            continue
        first = near[row].argsort(descending=True)[:num_same].numpy()
        assert value == pytest.approx((truth[first] == truth[row]).mean())


def test_equal_keys_share_the_last_places():
    """Copies that stand level at rank R count for the share that fits."""
    near = metrics.cosines(vectors(0, 30, 30, 30), None)
    truth = np.array([0, 0, 1, 1])
    # R = 1; the three others are equally near to text 0 and one of them is its fellow.
    assert metrics.r_precision(near, truth)[0] == pytest.approx(1 / 3)


def test_a_probe_separates_what_a_line_separates():
    """Clusters around the corners of a simplex are told apart without an error."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = torch.from_numpy((np.eye(3)[labels] + rng.normal(0, 0.05, (90, 3))).astype(np.float32))
    said = metrics.linear_probe(x[:60], labels[:60], x[60:])
    np.testing.assert_array_equal(said, labels[60:])


def test_the_first_hit_by_hand():
    """Ranks of the nearest fellow, recall and reciprocal rank."""
    keys, labels = vectors(0, 20, 50), np.array([0, 1, 0])
    rank = metrics.first_hit(metrics.cosines(vectors(5, 5, 5), keys), np.array([0, 1, 2]), labels)
    np.testing.assert_array_equal(rank, [0, 1, 3])  # nothing has label 2
    assert metrics.recall_at(rank, 1) == pytest.approx(1 / 3)
    assert metrics.recall_at(rank, 2) == pytest.approx(2 / 3)
    assert metrics.mean_reciprocal_rank(rank, 3) == pytest.approx((1 + 0.5 + 0) / 3)


@given(st.permutations(range(5)))
def test_votes_do_not_depend_on_order(order):
    """The majority of neighbours is that of a set of them."""
    labels = np.array([[0, 2, 2, 1, 1]])
    rows = [metrics.votes(labels[:, list(o)], 3) for o in (range(5), order)]
    assert all((a == b).all() for a, b in itertools.pairwise(rows))

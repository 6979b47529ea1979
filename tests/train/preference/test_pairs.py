"""Pairs: distinct items, labels by utility, and draws that do not depend on who is asked."""

from __future__ import annotations

import numpy as np

from tests.train.preference.planted import planted
from train.preference.pairs import sample, split

SEEDS = (1, 2)


def test_pairs_are_of_two_items():
    """No pair holds an item against itself, and every item may come."""
    pairs = sample(planted(6).utility, 400, SEEDS)
    assert (pairs.first != pairs.second).all()
    assert set(pairs.first.ravel()) == set(range(6))


def test_labels_follow_utility():
    """Where utilities differ by more than the noise can be, the better item is preferred."""
    space = planted()
    pairs = sample(space.utility, 500, SEEDS)
    gap = space.utility[:, pairs.first] - space.utility[:, pairs.second]  # [K, S, N]
    clear = np.abs(gap) > 0.3  # six standard deviations
    assert clear.sum() > 100
    assert ((gap > 0) == pairs.prefers_first.transpose(1, 0, 2))[clear].all()


def test_fewer_pairs_are_the_first_of_more():
    """A seed's 25 pairs are the first 25 of its 100."""
    utility = planted().utility
    few, many = (sample(utility, num, SEEDS) for num in (25, 100))
    np.testing.assert_array_equal(few.first, many.first[:, :25])
    np.testing.assert_array_equal(few.prefers_first, many.prefers_first[..., :25])


def test_a_stakeholder_alone_gets_the_same_labels():
    """What one is asked does not depend on who else is."""
    utility = planted().utility
    together, alone = sample(utility, 50, SEEDS), sample(utility[2:], 50, SEEDS)
    np.testing.assert_array_equal(together.prefers_first[:, 2:], alone.prefers_first)


def test_a_split_has_each_pair_once():
    """A fifth of the pairs is held out and the rest is learned from."""
    pairs = sample(planted().utility, 101, SEEDS)
    known, held_out = split(pairs, SEEDS)
    assert (known.first.shape[1], held_out.first.shape[1]) == (81, 20)
    both = np.concatenate([known.first, held_out.first], axis=1)
    np.testing.assert_array_equal(np.sort(both, axis=1), np.sort(pairs.first, axis=1))

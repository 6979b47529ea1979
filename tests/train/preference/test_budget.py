"""Prices in pairs: interpolated, censored where nothing reaches them, and fair to length."""

from __future__ import annotations

import pytest

from tests.train.preference.planted import planted
from tests.train.preference.shared_data import SHARED, needs_shared
from train.preference.budget import censored_median, curves, medians, prices
from train.preference.published import BUDGET
from train.preference.stakeholders import movielens


def test_a_price_lies_between_the_budgets_around_it():
    """Half of the gap is won back half-way between 0 and 100 pairs, four fifths at 160."""
    found = prices([0, 100, 200], [10.0, 0.0, -10.0], 0.0, "x")
    assert found == {"x_n50": 50.0, "x_n80": 80.0}


def test_what_no_budget_reaches_has_no_price():
    """A level above all that was reached is None, and so is a gap that is not there."""
    assert prices([0, 100], [10.0, 4.0], 0.0, "x")["x_n80"] is None
    assert prices([0, 100], [10.0, 4.0], 11.0, "x") == {"x_n50": None, "x_n80": None}


@pytest.mark.parametrize(
    ("values", "median"),
    [([1, None, 3], 3), ([1, None, None], None), ([1, 2, None, None], 2), ([4, 2], 3)],
)
def test_a_median_counts_what_was_never_reached(values, median):
    """Prices above the largest budget count as the largest."""
    assert censored_median(values) == median


def test_norm_matched_pairs_win_back_what_the_true_weights_would():
    """With many pairs the norm-matched regret comes near that of the true weights."""
    space = planted()
    found = curves(space, (25, 800), (42, 142))
    for of in found.values():
        start, _, last = of["norm_matched"]
        assert abs(last - of["oracle"]) <= 0.35 * abs(start - of["oracle"]) + 0.05
    assert medians(found)["norm_matched_n50"]["of"] == 3


@needs_shared
def test_the_published_prices_come_out():
    """ML-100K: pairs for half and four fifths within 10 %, and none for the user."""
    space = movielens.space("ml_100k", movielens.read_100k(SHARED)[0])
    found = curves(space, (25, 50, 100, 200, 500), [42 + 100 * at for at in range(20)])
    for who, wanted in BUDGET.items():
        ours = [found[who][f"published_{level}"] for level in ("n50", "n80")]
        assert ours == [None if w is None else pytest.approx(w, rel=0.1) for w in wanted]

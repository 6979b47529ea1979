"""Measures of rankings, chance, and what is more than chance."""

from __future__ import annotations

import numpy as np
import pytest

from train.interference.measures import by_chance, measures, paired, summary
from train.interference.split import Split


def split(hit: np.ndarray, long_tail: np.ndarray | None = None) -> Split:
    """Of candidates 0, 1, ... for every viewer."""
    V, C = hit.shape
    none = np.zeros((V, 0), np.int64)
    tail = np.zeros(C, bool) if long_tail is None else long_tail
    candidates = np.tile(np.arange(C), (V, 1))
    history, amplitude = none, none.astype(float)
    return Split(
        np.ones(0, bool), np.arange(V), history, amplitude, candidates, hit, np.zeros(C, int), tail
    )


def test_measures_of_a_known_order():
    """The original's own example: hits at ranks 1 and 4, one of them of the long tail."""
    hit = np.array([[False, True, False, True]])
    found = measures(np.array([[0.2, 0.9, 0.8, 0.1]]), split(hit, np.arange(4) == 3))
    ideal = 1 + 1 / np.log2(3)
    assert found["ndcg_10"][0] == pytest.approx((1 + 1 / np.log2(5)) / ideal)
    assert found["mrr"][0] == 1
    assert found["tail_50"][0] == 1


def test_no_hit_of_the_long_tail_is_undefined():
    """Recall of the long tail is NaN for a viewer without one, and does not count in the mean."""
    hit = np.array([[True, False], [True, False]])
    found = measures(np.zeros((2, 2)), split(hit))
    assert np.isnan(found["tail_50"]).all()
    assert summary(found)["tail_50"]["num"] == 0


def test_chance_is_what_random_orders_have():
    """The exact values are the means of many random orders."""
    rng = np.random.default_rng(0)
    hit = np.zeros((6000, 60), bool)
    hit[:, :3] = True
    found = summary(measures(rng.random(hit.shape), split(hit, np.ones(60, bool))))
    for key, value in by_chance(60, 3).items():
        assert abs(found[key]["mean"] - value) < 4 * found[key]["error"]


def test_a_shift_is_found_and_noise_is_not():
    """A clear shift has an interval beside 0 and a small p; noise around 0 has neither."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=400)
    found = paired({"shift": noise * 0.1 + 0.05, "noise": noise - noise.mean()}, 1000)
    assert found["shift"]["low"] > 0
    assert found["shift"]["p_holm"] < 0.05
    assert found["noise"]["low"] < 0 < found["noise"]["high"]
    assert found["noise"]["p"] > 0.5


def test_more_comparisons_need_more():
    """Corrected p values are no smaller than their own, and grow with the number compared."""
    rng = np.random.default_rng(2)
    shift = {"a": rng.normal(0.12, 1, 300)}
    alone = paired(shift, 2000)["a"]
    among = paired(shift | {str(i): rng.normal(0, 1, 300) for i in range(9)}, 2000)["a"]
    assert alone["p_holm"] == alone["p"]
    assert among["p_holm"] > among["p"]


def test_viewers_without_a_value_do_not_count():
    """NaN differences leave mean, number and interval to the other viewers."""
    values = np.array([1.0, np.nan, 1.0, np.nan])
    found = paired({"a": values, "none": np.full(4, np.nan)}, 200)
    assert (found["a"]["difference"], found["a"]["low"], found["a"]["num"]) == (1, 1, 2)
    assert found["none"]["num"] == 0
    assert np.isnan(found["none"]["difference"])

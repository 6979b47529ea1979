"""Statistics against published examples and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.prefix import statistics


def test_paired_t_of_students_sleep():
    """Student's sleep data (1908): t = 4.0621 with nine degrees of freedom, p = 0.002833."""
    drug_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    drug_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = statistics.paired_t(drug_2, drug_1)
    assert found["difference"] == pytest.approx(1.58)
    assert found["t"] == pytest.approx(4.0621, abs=1e-4)
    assert found["p"] == pytest.approx(0.002833, abs=1e-6)
    assert found["d"] == pytest.approx(4.0621 / math.sqrt(10), abs=1e-4)


def test_what_has_no_spread_has_no_p():
    """One pair, or pairs that all differ alike, if but for rounding, say nothing of chance."""
    alike = statistics.paired_t([0.3, 0.4, 0.7], [0.2, 0.3, 0.6])
    assert 0 < alike["sd"] < 1e-15
    assert math.isnan(alike["p"])
    assert statistics.meta_of_pairs({"alike": [0.3 - 0.2, 0.4 - 0.3, 0.7 - 0.6]}) == {"num": 0}
    with pytest.raises(ValueError, match="2 values beside 1"):
        statistics.paired_t([1.0, 2.0], [1.0])
    assert math.isnan(statistics.paired_t([1.0], [0.0])["p"])
    assert math.isnan(statistics.paired_t([1.0, 2.0], [0.0, 1.0])["p"])


def test_holm_by_hand():
    """Of 0.01, 0.04, 0.03 and 0.005 become 0.03, 0.06, 0.06 and 0.02."""
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    found = statistics.holm(p)
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


@given(st.dictionaries(st.text(max_size=2), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_nothing_and_bonferroni(p):
    """A corrected p is no smaller than the raw one, no larger than Bonferroni's, in its order."""
    found = statistics.holm(p)
    assert all(p[k] <= found[k] + 1e-15 for k in p)
    assert all(found[k] <= min(1.0, len(p) * p[k]) + 1e-12 for k in p)
    order = sorted(p, key=lambda name: p[name])
    assert [found[k] for k in order] == sorted(found[k] for k in order)


def test_a_missing_p_does_not_count():
    """Holm corrects for the tests that there are."""
    found = statistics.holm({"a": 0.01, "b": float("nan")})
    assert found["a"] == pytest.approx(0.01)
    assert math.isnan(found["b"])


def test_random_effects_of_the_bcg_trials():
    """BCG vaccine trials (Colditz 1994): log risk ratio -0.7141, tau2 0.3088, I2 92.1 %."""
    # Cases and non-cases of the vaccinated and of controls; values as R's metafor gives with DL.
    trials = np.array(
        [
            (4, 119, 11, 128),
            (6, 300, 29, 274),
            (3, 228, 11, 209),
            (62, 13536, 248, 12619),
            (33, 5036, 47, 5761),
            (180, 1361, 372, 1079),
            (8, 2537, 10, 619),
            (505, 87886, 499, 87892),
            (29, 7470, 45, 7232),
            (17, 1699, 65, 1600),
            (186, 50448, 141, 27197),
            (5, 2493, 3, 2338),
            (27, 16886, 29, 17825),
        ],
        float,
    )
    a, b, c, d = trials.T
    effects = np.log((a / (a + b)) / (c / (c + d)))
    variances = 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)
    found = statistics.random_effects(effects, variances)
    assert found["effect"] == pytest.approx(-0.7141, abs=5e-5)
    assert found["tau2"] == pytest.approx(0.3088, abs=5e-5)
    assert found["i2"] == pytest.approx(0.9212, abs=5e-4)
    assert found["q"] == pytest.approx(152.233, abs=5e-3)
    assert (found["low"], found["high"]) == pytest.approx((-1.0644, -0.3638), abs=5e-4)


def test_few_seeds_have_no_effect_size():
    """Two seeds are no basis for a standardised difference; three are, corrected by J = 4 / 7."""
    assert statistics.meta_of_pairs({"a": [0.1, 0.2]}) == {"num": 0}
    found = statistics.meta_of_pairs({"a": [1.0, 2.0, 3.0]})
    assert found["effect"] == pytest.approx(2 * 4 / 7)


def test_equal_studies_have_no_spread():
    """Studies that agree are pooled as one fixed effect."""
    found = statistics.random_effects([0.5, 0.5], [0.1, 0.1])
    assert found["tau2"] == 0
    assert found["effect"] == pytest.approx(0.5)
    assert found["high"] - found["effect"] == pytest.approx(1.959964 * math.sqrt(0.05))


def test_the_sign_test_counts_coins():
    """Eight heads of eight have p = 2 / 2^8; zeros are no throws."""
    assert statistics.sign_test([1.0] * 8 + [0.0]) == pytest.approx(
        {"positive": 8, "num": 8, "p": 2 / 256}
    )
    assert statistics.sign_test([1, 1, 1, -1])["p"] == pytest.approx(10 / 16)


@pytest.mark.parametrize("same_items", [True, False])
def test_the_bootstrap_knows_both_sources_of_chance(same_items):
    """Its interval covers the mean, and is as wide as items and seeds make it."""
    rng = np.random.default_rng(0)
    seeds, items = 5, 400
    differences = rng.normal(0.1, 1, (seeds, items)) + rng.normal(0, 0.2, (seeds, 1))
    found = statistics.paired_bootstrap(list(differences), same_items, num_rounds=500)
    assert found["difference"] == pytest.approx(differences.mean())
    assert found["low"] < found["difference"] < found["high"]
    alone = differences.mean(axis=1).std() / math.sqrt(seeds)
    assert found["high"] - found["low"] > 2 * 1.96 * alone * 0.9


def test_equal_runs_leave_no_interval():
    """Runs that agree on every text differ by nothing, whatever is drawn."""
    found = statistics.paired_bootstrap([np.zeros(10)] * 3, True, num_rounds=20)
    assert (found["low"], found["difference"], found["high"]) == (0, 0, 0)


def test_trend_by_hand():
    """Ranks 1 2 3 5 4 against 1..5 have rho 0.9; a line has r 1."""
    assert statistics.trend([1, 2, 3, 4, 5], [1, 2, 3, 9, 8])["rho"] == pytest.approx(0.9)
    assert statistics.trend([1, 2, 3], [2, 4, 6])["r"] == pytest.approx(1)


@given(st.floats(-2, -0.1), st.floats(-3, 3), st.floats(-1, 1))
def test_a_parabola_is_found_again(a, peak, c):
    """The fit of an exact parabola has its peak, and explains all."""
    x = np.linspace(-4, 4, 9)
    found = statistics.quadratic(x, a * (x - peak) ** 2 + c)
    assert found["peak"] == pytest.approx(peak, abs=1e-6)
    assert found["r2"] == pytest.approx(1)


def test_an_upward_curve_has_no_peak():
    """Of what never falls no peak is told; an interval over seeds says how often there is one."""
    x = np.arange(4.0)
    assert math.isnan(statistics.quadratic(x, x**2)["peak"])
    found = statistics.peak_interval(x, np.stack([x**2, x**2 + 1]), num_rounds=10)
    assert found["share_peaked"] == 0

"""Rates, intervals and the numbers of graphs and times are what their formulas say."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.diagnostics import rates
from pipelines.diagnostics.rates import Needed
from pipelines.signals import PRIOR

COUNTS = st.integers(0, 3_000).flatmap(
    lambda shown: st.tuples(st.integers(0, shown), st.just(shown))
)
RATE = st.floats(1e-5, 0.99)
OWNED = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=40)


@given(COUNTS)
def test_wilson_ends_solve_the_score_equation(counts):
    """At both ends the rate seen lies 1.96 deviations away; in between lies the rate itself."""
    done, shown = counts
    low, high = (float(end) for end in rates.wilson(done, shown))
    if not shown:
        assert (low, high) == (0, 1)
        return
    for end in (low, high):
        off = (done / shown - end) ** 2
        assert off == pytest.approx(rates.Z**2 * end * (1 - end) / shown, abs=1e-12)
    assert 0 <= low <= done / shown <= high <= 1
    assert pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-12) == rates.Z


@given(COUNTS.filter(lambda counts: counts[1] > 0), st.integers(2, 9))
def test_more_showings_narrow_an_interval(counts, times):
    """The same rate over more showings has a narrower interval."""
    done, shown = counts
    few, many = (np.diff(rates.wilson(done * n, shown * n)) for n in (1, times))
    assert many < few


@given(COUNTS, RATE)
def test_a_rate_beside_the_base_rate(counts, base):
    """The part is the smoothed rate's share of both odds: one half where nothing was shown."""
    done, shown = counts
    value, low, high = rates.rate_beside([done], [shown], base)
    rate = (done + PRIOR * base) / (shown + PRIOR)
    odds, typical = rate / (1 - rate), base / (1 - base)
    assert value[0] == pytest.approx(odds / (odds + typical), rel=1e-9)
    assert 0 <= low[0] <= value[0] <= high[0] <= 1
    assert rates.rate_beside([0], [0], base)[0][0] == pytest.approx(0.5, abs=1e-12)


@given(st.lists(st.tuples(COUNTS, RATE, st.floats(0.01, 20)), min_size=1, max_size=4))
def test_worth_beside_the_base_rates(acts):
    """Worth is summed act by act, and its interval by the deviations of Beta distributions."""
    shown = max(shown for (_, shown), *_ in acts)
    done = [min(done, shown) for (done, _), *_ in acts]
    base, weight = [base for _, base, _ in acts], [weight for *_, weight in acts]
    value = typical = off = 0.0
    for num, p, w in zip(done, base, weight, strict=True):
        a, b = num + PRIOR * p, shown - num + PRIOR * (1 - p)
        value += w * a / (a + b)
        off += w * rates.Z * math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
        typical += w * p
    found = rates.worth_beside([done], [shown], base, weight)
    ends = (value, max(value - off, 0), value + off)
    for got, end in zip(found, ends, strict=True):
        assert got[0] == pytest.approx(end / (end + typical), abs=1e-12)


@given(RATE, st.floats(0.05, 0.9))
def test_the_minimum_follows_from_the_width(base, width):
    """With the minimum an interval at the base rate fits, with one showing fewer it does not."""
    least = Needed(max_interval=width).showings(base)

    def widest(shown):
        return rates.Z / 2 * math.sqrt(base * (1 - base) / shown) / base

    assert widest(least) <= width * (1 + 1e-9)
    assert least == 1 or widest(least - 1) > width * (1 - 1e-9)
    assert Needed().showings(0.0) == math.inf
    assert Needed().showings(1.0) == 1


@given(OWNED)
def test_kinds_are_counted_by_owner(pairs):
    """Pairs of one kind and entropies are those of plain loops over each owner's things."""
    owner, kind = (np.array([pair[at] for pair in pairs], np.int64) for at in (0, 1))
    same, bits = rates.same_kind(owner, kind, 4), rates.entropy_bits(owner, kind, 4)
    for one in range(4):
        mine = [k for o, k in pairs if o == one]
        drawn = [a == b for a, b in combinations(mine, 2)]
        share = [mine.count(k) / len(mine) for k in set(mine)]
        np.testing.assert_allclose(same[one], np.mean(drawn) if drawn else np.nan, atol=1e-12)
        assert bits[one] == pytest.approx(-sum(p * math.log2(p) for p in share), abs=1e-12)


@given(OWNED)
def test_regularity_is_that_of_each_owners_gaps(pairs):
    """Times of others change nothing; a clock is 1."""
    owner, at_ms = (np.array([pair[at] for pair in pairs], np.int64) for at in (0, 1))
    got = rates.regularity(owner, at_ms, 4)
    for one in range(4):
        gaps = np.diff(np.sort(at_ms[owner == one])).astype(float)
        known = len(gaps) > 1 and gaps.sum() > 0
        want = gaps.mean() / (gaps.mean() + gaps.std()) if known else np.nan
        np.testing.assert_allclose(got[one], want, atol=1e-12)
    clock = rates.regularity(np.zeros(9, np.int64), np.arange(9) * 1000, 1)
    assert clock[0] == pytest.approx(1, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20, unique=True))
def test_centrality_is_the_fixed_point(edges):
    """One more round changes next to nothing, and all of it adds up to one."""
    edges = [(a, b) for a, b in edges if a != b]
    follower, followee = (np.array([e[at] for e in edges], np.int64) for at in (0, 1))
    rank = rates.centrality(follower, followee, 6)
    step = np.zeros((6, 6))
    for one in range(6):
        whom = [b for a, b in edges if a == one] or range(6)
        for other in whom:
            step[other, one] += 1 / len(whom)
    assert rank.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(0.85 * step @ rank + 0.15 / 6, rank, atol=1e-3)


@given(st.lists(st.integers(0, 9)), st.integers(0, 9))
def test_a_percentile_counts_equal_ones_half(others, value):
    """It is the share of lower ones and half of the equal ones; unknown among nobody."""
    got = float(rates.percentile(float(value), np.sort(np.array(others, float))))
    below = sum(o < value for o in others) + sum(o == value for o in others) / 2
    np.testing.assert_allclose(got, below / len(others) if others else np.nan, atol=1e-12)

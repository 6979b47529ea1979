"""Wilson intervals: the published figure, and fewer answers where they come together."""

from __future__ import annotations

import numpy as np
import pytest

from train.preference.proportions import wilson


def test_all_of_32_says_at_least_89_percent():
    """32 of 32 has the interval 0.893 to 1."""
    found = wilson([True] * 32)
    assert (found.low, found.high) == (pytest.approx(0.893, abs=0.001), pytest.approx(1.0))


def test_doubled_answers_add_nothing():
    """Each answer given twice by one cluster is as sure as given once."""
    hits = np.random.default_rng(0).random(60) < 0.7
    once = wilson(hits)
    twice = wilson(np.repeat(hits, 2), np.repeat(np.arange(60), 2))
    assert twice.share == once.share
    assert (twice.low, twice.high) == (
        pytest.approx(once.low, 0.01),
        pytest.approx(once.high, 0.01),
    )


def test_unrelated_answers_of_a_cluster_count_in_full():
    """Clusters whose answers have nothing to do with each other narrow the interval."""
    hits = np.random.default_rng(1).random(2_000) < 0.5
    paired = wilson(hits, np.repeat(np.arange(1_000), 2))
    single = wilson(hits)
    assert (paired.high - paired.low) == pytest.approx(single.high - single.low, rel=0.1)


def test_no_answers_say_nothing():
    """Without answers the interval is all of it."""
    found = wilson([])
    assert np.isnan(found.share)
    assert (found.low, found.high) == (0, 1)

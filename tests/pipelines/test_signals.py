"""What was done before becomes numbers whose zero means "nothing known"."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.features import history_rows
from pipelines.signals import PRIOR, matches, overall_log_odds, relative_log_odds, signals
from serve.stores.profiles import ProfileStore


def logit(p):
    """Log-odds."""
    return np.log(p / (1 - p))


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0.01, 0.99))
def test_a_rate_is_compared_with_the_overall_one(done, missed, p):
    """The number is the smoothed rate's log-odds above the overall, 0 for what was never shown."""
    counts = np.array([done + missed, done], np.float32)
    got = relative_log_odds(counts, np.array([logit(p)]))
    rate = (done + PRIOR * p) / (done + missed + PRIOR)

    np.testing.assert_allclose(got[1], logit(rate) - logit(p), atol=1e-3)
    np.testing.assert_allclose(got[0], np.log1p(done + missed) / 10, rtol=1e-5)


def test_an_action_nobody_did_says_nothing():
    """Without an overall rate there is nothing to compare with."""
    base = overall_log_odds(np.array([10.0, 0.0, 5.0], np.float32))

    assert np.isnan(base[0])
    assert base[1] == 0  # done half of the time
    assert relative_log_odds(np.array([4, 0, 2], np.float32), np.full(2, np.nan))[1:].tolist() == [
        0,
        0,
    ]


def test_matches_count_events_and_acts():
    """Only events that match a candidate count for it."""
    did = np.array([[[1, 0], [1, 1], [0, 1]]], np.float32)
    same = np.array([[[True, False, True], [False, False, False]]])

    assert matches(did, same).tolist() == [[[2, 1, 1], [0, 0, 0]]]


@given(st.integers(0, 200_000), st.integers(1, 10_000_000))
def test_what_all_did_is_a_number(shown, overall):
    """An action that came of every showing, as viewing in a log of views, gives small numbers."""
    base = overall_log_odds(np.array([overall, overall], np.float32))
    got = relative_log_odds(np.array([shown, shown], np.float32), base)

    assert 0 < base[0] < 20
    assert abs(got[1]) < 12


def test_a_candidates_numbers_are_its_own(bundle):
    """Shown at one time or each at another, beside others or alone, its numbers are the same.

    Whether all or few of the posts were met before, and for two viewers as for each.
    """
    facts, posts = bundle.facts, bundle.posts
    post_id, author_id = (posts[name].to_numpy() for name in ("post_id", "author_id"))
    histories = [ProfileStore(bundle.profiles).history(user_id) for user_id in (1, 2)]
    at_ms = bundle.as_of_ms
    rows = history_rows(histories, [at_ms, at_ms])
    seen = [np.isin(post_id, history.post_id) for history in histories]
    assert all(0 < few.mean() < 0.5 for few in seen)
    num_actions = len(bundle.actions)

    def numbers(rows, post_id, author_id, at_ms):
        return signals(rows, post_id, author_id, at_ms, facts, num_actions, 64)

    every = [np.tile(ids, (2, 1)) for ids in (post_id, author_id, np.full(len(post_id), at_ms))]
    together = numbers(rows, *every)
    later = every[2].copy()
    later[:, -1] += 1
    np.testing.assert_array_equal(numbers(rows, *every[:2], later)[:, :-1], together[:, :-1])
    for row, few in enumerate(seen):
        own = rows.slice(row, 1)
        met = [ids[row : row + 1, few] for ids in every]
        np.testing.assert_array_equal(numbers(own, *met)[0], together[row, few])

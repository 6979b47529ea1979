"""Viewers who are ranked for again get the same, with or without what was kept of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.features import History
from serve.deployments import Ranker, RankerSettings
from serve.models import Ranking

NOW_MS = 1_768_000_000_000  # some day in January 2026
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def rankers(bundle) -> tuple[Ranker, Ranker]:
    """One that keeps contexts, few enough that some go, and one that keeps none."""
    return Ranker(bundle, RankerSettings(context_bytes=6000)), Ranker(
        bundle, RankerSettings(context_bytes=0)
    )


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    """One of two viewers after up to ten events, the same for both, now or later."""
    num, num_posts = draw(st.integers(0, 10)), draw(st.integers(1, 9))
    ids = np.arange(1, num + 1)
    history = History(
        user_id=draw(st.integers(1, 2)),
        post_id=ids,
        author_id=ids % 4,
        did=ids % 8,
        surface=(ids % 3).astype(np.int16),
        dwell_s=ids.astype(np.float32),
        at_ms=NOW_MS - 24 * HOUR_MS * (20 - ids),
    )
    post_id = np.arange(1, num_posts + 1)
    later_ms = draw(st.sampled_from([0, 0, 1, HOUR_MS, 30 * 24 * HOUR_MS]))
    return Ranking(history, post_id, post_id % 5, draw(st.integers(0, 2)), NOW_MS + later_ms)


@settings(max_examples=60, derandomize=True)
@given(st.lists(rankings(), min_size=1, max_size=4))
def test_kept_or_not_answers_are_the_same(rankers, asked):
    """Viewers that come again, with new events or later, get what a ranker without a cache says."""
    keeps, keeps_none = rankers
    for ours, theirs in zip(keeps.rank(asked), keeps_none.rank(asked), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_page_later_is_a_hit(bundle, rankers):
    """Other posts a moment later need no context; an event, or a month, does."""
    ranker, posts = Ranker(bundle), bundle.posts["post_id"].to_numpy()
    ids = np.arange(1, 4)
    old = History(
        1, ids, ids, ids, ids.astype(np.int16), ids.astype("f4"), NOW_MS - ids[::-1] * 10**9
    )
    event = History(
        1,
        ids[:1] + 8,
        ids[:1],
        ids[:1],
        ids[:1].astype(np.int16),
        ids[:1].astype("f4"),
        np.array([NOW_MS]),
    )
    told = []
    for history, at_ms, first in (
        (old, NOW_MS, 0),
        (old, NOW_MS + 1000, 50),
        (old.then(event), NOW_MS + 2000, 0),
        (replace(old, did=old.did + 1), NOW_MS, 0),
        (old, NOW_MS + 30 * 24 * HOUR_MS, 0),
    ):
        shown = posts[first : first + 50]
        asked = [Ranking(history, shown, shown % 7, 1, at_ms)]
        (ours,), (theirs,) = ranker.rank(asked), rankers[1].rank(asked)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        told.append(
            tuple(ranker.stats()[f"contexts_{n}"] for n in ("hits", "extensions", "misses"))
        )
    assert told == [(0, 0, 1), (1, 0, 1), (1, 1, 1), (1, 1, 2), (1, 1, 3)]


def test_no_bytes_keep_nothing(bundle):
    """With 0 bytes there is no cache and nothing to tell of it."""
    assert Ranker(bundle, RankerSettings(context_bytes=0)).stats() == {}
    assert Ranker(bundle).stats()["contexts_kept"] == 0

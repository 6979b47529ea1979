"""A kept prediction is given only for what it was computed from."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pipelines.features import Inputs
from serve.deployments import Ranker, RankerSettings
from serve.models import Ranking
from serve.score_cache import ScoreCache
from serve.stores.profiles import ProfileStore

NUM_ACTIONS = 3
BYTES = 8 + 4 * NUM_ACTIONS  # of one prediction


class Told:
    """Stands for a ranker whose prediction is all that was read of a viewer and a candidate."""

    def __init__(self) -> None:
        self.computed = 0

    def predict(self, inputs: Inputs) -> np.ndarray:
        there = inputs["candidate_post_hashes"][..., 0] != 0
        self.computed += int(there.sum())
        viewer = np.broadcast_to(inputs["user_hashes"], there.shape)
        read = [
            viewer,
            inputs["candidate_post_hashes"][..., 0],
            inputs["candidate_signals"][..., 0],
        ]
        return np.stack(read, axis=-1).astype(np.float32) * there[..., None]


def keys(inputs: Inputs) -> list[bytes]:
    """One a viewer."""
    return [bytes(viewer) for viewer in inputs["user_hashes"]]


def asked(draw: random.Random, num_viewers: int = 3, num_candidates: int = 6) -> Inputs:
    """Some of few viewers, each with some of few posts at one of few rates; 0 = padding."""
    shape = num_viewers, num_candidates, 1

    def any_of(high: int, *shape: int) -> np.ndarray:
        return np.array([draw.randrange(high) for _ in range(int(np.prod(shape)))]).reshape(shape)

    return {
        "user_hashes": any_of(4, num_viewers, 1) + 1,
        "candidate_post_hashes": any_of(9, *shape),
        "candidate_signals": any_of(2, *shape).astype(np.float32),
    }


@pytest.mark.parametrize("max_bytes", [0, 30 * BYTES, 10_000])
def test_no_prediction_is_stale(max_bytes):
    """Whoever asks for whatever, each gets what was computed from just that, padding apart."""
    draw, told = random.Random(0), Told()
    cache = ScoreCache(keys, told.predict, NUM_ACTIONS, max_bytes)
    for _ in range(2_000):
        inputs = asked(draw, draw.randrange(1, 4), draw.randrange(1, 8))
        np.testing.assert_array_equal(cache.predict(inputs), Told().predict(inputs))
        assert cache.stats()["bytes"] <= max_bytes
    stats = cache.stats()
    assert told.computed == stats["misses"]
    assert (stats["hits"] == 0) == (max_bytes == 0)


def test_nothing_is_computed_twice():
    """The same candidates again, in any order or fewer, cost nothing; a new one itself alone."""
    told = Told()
    cache = ScoreCache(keys, told.predict, NUM_ACTIONS, 10_000)
    posts = np.arange(1, 6).reshape(1, 5, 1)

    def ask(posts: np.ndarray) -> int:
        before = told.computed
        signals = np.zeros(posts.shape, np.float32)
        viewer = np.ones((1, 1), np.int64)
        inputs = {"candidate_post_hashes": posts, "candidate_signals": signals}
        cache.predict({**inputs, "user_hashes": viewer})
        return told.computed - before

    assert [ask(posts), ask(posts[:, ::-1]), ask(posts[:, :2])] == [5, 0, 0]
    assert [ask(posts + 1), ask(posts)] == [1, 0]


def test_who_was_longest_not_asked_for_goes_first():
    """With room for two viewers, the one who came again stays."""
    told = Told()
    cache = ScoreCache(keys, told.predict, NUM_ACTIONS, 2 * BYTES)

    def ask(user_id: int) -> int:
        before = told.computed
        one = np.ones((1, 1, 1))
        inputs = {"candidate_post_hashes": one.astype(np.int64), "candidate_signals": one}
        cache.predict({**inputs, "user_hashes": np.array([[user_id]])})
        return told.computed - before

    assert [ask(1), ask(2), ask(1), ask(3), ask(1), ask(2)] == [1, 1, 0, 1, 0, 1]


def test_a_served_ranker_predicts_the_same_with_and_without(bundle):
    """Kept scores are those of a pass: for pages that share posts, and an hour later."""
    profiles, plain = ProfileStore(bundle.profiles), Ranker(bundle)
    caching = Ranker(bundle, RankerSettings(score_bytes=1_000_000))
    posts, authors = (bundle.posts[name].to_numpy() for name in ("post_id", "author_id"))
    for hour, first in ((0, 0), (0, 5), (0, 5), (1, 5)):
        page = slice(first, first + 20)
        at_ms = bundle.as_of_ms + 3_600_000 * hour
        rankings = [
            Ranking(profiles.history(user_id), posts[page], authors[page], 1, at_ms)
            for user_id in (1, 2, 3)
        ]
        for mine, theirs in zip(caching.rank(rankings), plain.rank(rankings), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert caching.stats()["scores_misses"] == 3 * (20 + 5 + 20)
    assert caching.stats()["scores_hits"] == 3 * (15 + 20)

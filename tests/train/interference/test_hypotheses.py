"""Stability of dimensions, and later likes against later dislikes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.interference.planted import write_ml_100k
from train.interference.parts.ablations import with_dislikes
from train.interference.parts.dimension import correlation, estimates
from train.interference.parts.feedback import newest
from train.interference.ratings import DISLIKED, LIKED, Ratings, read
from train.interference.split import SplitConfig, published
from train.interference.study import Feedback


@pytest.fixture(scope="module")
def ratings(tmp_path_factory) -> Ratings:
    """Of the planted archive."""
    return read("ml-100k", write_ml_100k(tmp_path_factory.mktemp("data")).parent)


def test_correlation_is_pearsons():
    """R is Pearson's, inside its interval."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = a + rng.normal(size=200)
    found = correlation(a, b)
    assert found["r"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found["low"] < found["r"] < found["high"]


def test_estimates_do_not_depend_on_the_batch():
    """A history has the same dimension alone and beside a longer one."""
    vectors = np.random.default_rng(1).normal(size=(100, 5))
    short, long = np.arange(20), np.arange(20, 100)
    both = estimates(vectors, [short, long])
    for name, of in estimates(vectors, [short]).items():
        assert of[0] == pytest.approx(both[name][0])


def test_later_ratings_are_held_out(ratings):
    """What is told apart is newer than every source, rated by the viewer, and not learned from."""
    later = newest(ratings, Feedback(share=0.3), seed=0)
    for at, viewer in enumerate(later.split.viewer):
        own = ratings.user == viewer
        place = dict(zip(ratings.item[own], ratings.at[own], strict=True))
        stars = dict(zip(ratings.item[own], ratings.value[own], strict=True))
        known = later.known[at]
        asked = later.split.candidates[at][known]
        before = later.both.history[at][: later.both.lengths[at]]
        assert min(place[i] for i in asked) > max(place[i] for i in before)
        liked = [stars[i] >= LIKED for i in asked]
        assert later.split.hit[at][known].tolist() == liked
        assert any(liked)
        assert not all(liked)
        assert not later.split.train[own & np.isin(ratings.item, asked)].any()
        assert (~later.split.train[own]).sum() == np.ceil(0.3 * own.sum())
        signs = later.both.amplitude[at][: len(before)]
        assert [s > 0 for s in signs] == [stars[i] >= LIKED for i in before]


def test_item_means_are_of_what_was_rated_before(ratings):
    """A post's mean lies between the overall mean and that of its earlier ratings."""
    later = newest(ratings, Feedback(share=0.3), seed=0)
    train = later.split.train
    overall = ratings.value[train].mean()
    for item in range(0, ratings.num_items, 7):
        own = ratings.value[train & (ratings.item == item)].mean()
        assert min(own, overall) <= later.means[item] <= max(own, overall)


def test_dislikes_stand_before_the_likes(ratings):
    """Signed histories hold the viewer's dislikes with negative amplitudes, no more than likes."""
    split = published(ratings, SplitConfig(num_viewers=20, least_history=5, num_negatives=10))
    signed = with_dislikes(split, ratings)
    for at, viewer in enumerate(split.viewer):
        own = signed.amplitude[at][: signed.lengths[at]]
        assert (own > 0).sum() == split.lengths[at]
        assert 0 < (own < 0).sum() <= split.lengths[at]
        disliked = set(ratings.item[(ratings.user == viewer) & (ratings.value <= DISLIKED)])
        assert set(signed.history[at][: len(own)][own < 0]) <= disliked

"""Ratings and the protocols that hold some of them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.reader import MissingInputError
from tests.train.interference.planted import NUM_FILMS, NUM_VIEWERS, write_ml_100k
from train.interference.ratings import LIKED, Ratings, made, read
from train.interference.split import SplitConfig, for_ranker, published

SMALL = SplitConfig(num_viewers=20, least_history=5, num_negatives=10)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory) -> Ratings:
    """Of the planted archive."""
    return read("ml-100k", write_ml_100k(tmp_path_factory.mktemp("data")).parent)


def test_stars_and_titles_are_read(ratings):
    """Every rating keeps its stars and place in time, every film its title and genres."""
    assert (ratings.num_users, ratings.num_items) == (NUM_VIEWERS, NUM_FILMS)
    assert set(np.unique(ratings.value)) == {1.0, 2.0, 4.0, 5.0}
    assert ratings.texts is not None
    assert ratings.texts[0] == "Film 0 (1990). Western"
    rows, start = ratings.rows_of(ratings.user == 3)
    assert (np.diff(ratings.at[rows]) > 0).all()
    assert start[3] == 0
    assert start[4] == len(rows)


def test_the_bundled_log_has_one_value_a_pair():
    """Of KuaiRand each viewer values a video once, likes above clicks above what was passed by."""
    ratings = read("kuairand", Path("nowhere"))
    pair = ratings.user * ratings.num_items + ratings.item
    assert len(np.unique(pair)) == len(pair)
    assert set(np.unique(ratings.value)) == {1.0, 2.0, 4.0, 5.0}


@pytest.mark.parametrize("name", ["ml-1m", "kuairand-27k"])
def test_a_missing_file_is_told(name, tmp_path):
    """What is not there is named, and where it comes from."""
    with pytest.raises(MissingInputError, match="fetch"):
        read(name, tmp_path)


def test_the_newest_likes_are_held_out(ratings):
    """A viewer's last three likes are the hits, and nothing of them is learned from."""
    split = published(ratings, SMALL)
    assert split.candidates.shape == (20, 13)
    assert (split.hit.sum(1) == 3).all()
    for at, viewer in enumerate(split.viewer):
        rows, _ = ratings.rows_of((ratings.user == viewer) & (ratings.value >= LIKED))
        assert set(split.candidates[at][split.hit[at]]) == set(ratings.item[rows[-3:]])
        length = split.lengths[at]
        assert split.history[at, :length].tolist() == ratings.item[rows[:-3]].tolist()
        assert split.amplitude[at, :length].tolist() == (ratings.value[rows[:-3]] - 3).tolist()
        assert not split.train[rows[-3:]].any()
        assert split.train[rows[:-3]].all()


def test_negatives_were_never_rated(ratings):
    """No candidate but the hits was rated by the viewer, and none comes twice."""
    split = published(ratings, SMALL)
    for at, viewer in enumerate(split.viewer):
        rated = set(ratings.item[ratings.user == viewer])
        assert not rated & set(split.candidates[at][~split.hit[at]])
        assert len(set(split.candidates[at])) == len(split.candidates[at])


def test_a_ranker_learns_from_what_comes_before_the_test(ratings):
    """Both splits have one history, older than all hits, and neither's hits are learned from."""
    learn, test = for_ranker(ratings, SMALL, repeat=1, num_learn=6)
    assert learn.history.tolist() == test.history.tolist()
    assert (learn.candidates.shape[1], test.candidates.shape[1]) == (9, 13)
    for at, viewer in enumerate(test.viewer):
        rows, _ = ratings.rows_of((ratings.user == viewer) & (ratings.value >= LIKED))
        assert set(learn.candidates[at][learn.hit[at]]) == set(ratings.item[rows[-6:-3]])
        assert set(test.candidates[at][test.hit[at]]) == set(ratings.item[rows[-3:]])
        assert test.lengths[at] == len(rows) - 6
        assert not test.train[rows[-6:]].any()


def test_repeats_differ_by_negatives_alone(ratings):
    """Another repeat asks the same viewers for the same hits among others."""
    one, other = (for_ranker(ratings, SMALL, repeat, 6)[1] for repeat in (0, 1))
    assert one.viewer.tolist() == other.viewer.tolist()
    assert one.train.tolist() == other.train.tolist()
    assert (one.candidates != other.candidates).any()


def test_newest_keeps_the_end_of_a_history(ratings):
    """Cut histories hold the newest likes in their order."""
    split = published(ratings, SMALL)
    cut = split.newest(4)
    for at, length in enumerate(split.lengths):
        assert cut.history[at].tolist() == split.history[at, length - 4 : length].tolist()
        assert cut.amplitude[at].tolist() == split.amplitude[at, length - 4 : length].tolist()


def test_too_few_unrated_posts_are_told():
    """Where a viewer rated nearly everything, the error names how many are left."""
    ratings = made(np.ones(9, int), np.arange(9), np.full(9, 5.0), np.arange(9))
    with pytest.raises(ValueError, match="left 0 unrated"):
        published(ratings, SMALL.model_copy(update={"num_negatives": 1}))

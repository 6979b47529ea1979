"""MovieLens: stakeholders of a few made-up ratings, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.reader import MissingInputError
from tests.train.preference.shared_data import SHARED, needs_shared
from train.preference.stakeholders import movielens


def ratings() -> movielens.Ratings:
    """Two films, action and drama, of five ratings each, and a third of one."""
    film = np.array([1] * 5 + [2] * 5 + [3])
    stars = np.array([5, 5, 4, 4, 4, 2, 2, 2, 1, 1, 5], float)
    genres = np.zeros((3, 19), bool)
    genres[[0, 1, 2], [1, 8, 8]] = True
    return movielens.Ratings(np.arange(11), film, stars, np.array([1, 2, 3]), genres)


def test_films_need_five_ratings_and_are_their_genres():
    """The pool leaves out the film of one rating; a feature is the genre times the mean over 5."""
    space = movielens.space("small", ratings())
    assert sorted(space.topic.tolist()) == [1, 8]
    row = {topic: at for at, topic in enumerate(space.topic.tolist())}
    assert space.features[row[1], 1] == pytest.approx(4.4 / 5)
    assert space.features[row[8], 8] == pytest.approx(1.6 / 5)


def test_users_want_what_is_rated_high():
    """The user likes action and not drama; diversity wants what there is less of."""
    space = movielens.space("small", ratings())
    user, diversity = (space.weights[space.of_stakeholder(n)] for n in ("user", "diversity"))
    assert user[1] == 1.0
    assert user[8] == pytest.approx((13 / 6 - 3) / 1.4)
    assert (diversity[1], diversity[8]) == pytest.approx((1.0, -1.0))


def test_bystanders_are_made_from_counts():
    """They stand apart from those who are learned; the moderator dislikes what is rated low."""
    space = movielens.space("small", ratings())
    assert not set(space.bystanders) & set(space.stakeholders)
    assert space.bystanders["moderator"][8] == -1.0
    assert space.bystanders["creator"][8] == 1.0  # two of three films are dramas
    wide = space.with_bystanders()
    assert wide.stakeholders == (*space.stakeholders, *space.bystanders)
    assert wide.weights.shape == (8, 19)
    assert wide.worth.shape == (8, len(space.features))


def test_missing_files_say_what_to_fetch(tmp_path: Path):
    """Without the archive the error names it and where it comes from."""
    with pytest.raises(MissingInputError, match=r"ml-100k.zip: no such file; fetch"):
        movielens.read_100k(tmp_path)


def test_100k_is_read_with_its_split(tmp_path: Path):
    """The ua files are read from an unpacked folder, and a tenth of the base is left out."""
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    lines = [f"{user}\t1\t{user % 5 + 1}\t0" for user in range(1, 41)]
    (folder / "ua.base").write_text("\n".join(lines))
    (folder / "ua.test").write_text("1\t1\t5\t0\n")
    flags = "|".join("1" if at == 1 else "0" for at in range(19))
    (folder / "u.item").write_text(f"1|Película|01-Jan-1995||url|{flags}\n", encoding="latin-1")
    train, test = movielens.read_100k(tmp_path)
    assert (len(train.stars), len(test.stars)) == (36, 1)
    assert train.genres[0].nonzero()[0].tolist() == [1]


@needs_shared
def test_a_split_at_random_is_as_large():
    """Without the ua files as many ratings are drawn, and others."""
    drawn, (given, _) = movielens.read_100k_at_random(SHARED), movielens.read_100k(SHARED)
    assert len(drawn.stars) == len(given.stars) == movielens.NUM_TRAIN
    assert (drawn.film != given.film).any()


@needs_shared
def test_the_published_pool_comes_out():
    """ML-100K: 81,513 ratings, 1,305 films, raw cosines to 0.001."""
    space = movielens.space("ml_100k", movielens.read_100k(SHARED)[0])
    assert (space.story["ratings"], len(space.features)) == (81_513, 1_305)
    unit = space.weights / np.linalg.norm(space.weights, axis=1, keepdims=True)
    raw = unit @ unit.T
    assert [raw[0, 1], raw[0, 2], raw[1, 2]] == pytest.approx([0.930, -0.087, -0.154], abs=1e-3)

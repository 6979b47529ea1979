"""Which of two films a person rates higher: learned from some viewers, asked of others.

Viewers are split; weights over genres, how often and how high films are rated are learned from
the pairs of four fifths, and tell the pairs of the rest, of whom nothing else is known. Beside
them: what a film's training ratings say alone, and the stakeholder `user` as published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.reader import MissingInputError
from train.preference.real.shown import (
    accuracies,
    advantages,
    learn_from,
    pairs_within,
    strongest,
)
from train.preference.settings import StudyConfig
from train.preference.space import fingerprint
from train.preference.stakeholders.movielens import (
    FEWEST,
    Ratings,
    basic_weights,
    read_1m,
    read_100k,
)

HELD_OUT = 0.2  # of the viewers
MOST = 20  # pairs of a viewer
SEED = 0


def measure(config: StudyConfig) -> tuple[dict[str, Any], str]:
    """Accuracies on held-out viewers, of each release that is there.

    Returns:
        Them, and the fingerprint of what they are of.

    Raises:
        MissingInputError: none is.
    """
    found, missing, columns = {}, [], []
    for name, read in (("ml_100k", read_100k), ("ml_1m", read_1m)):
        try:
            ratings = read(Path(config.data))[0]
        except MissingInputError as error:
            missing.append(error)
            continue
        found[name] = of_ratings(ratings)
        columns += [ratings.user, ratings.film, ratings.stars, ratings.genres]
    if not found:
        raise missing[0]
    return found, fingerprint(*columns)


def of_ratings(ratings: Ratings) -> dict[str, Any]:
    """Learn from most viewers, and tell the pairs of the others.

    Args:
        ratings: of all viewers.
    """
    rng = np.random.default_rng(SEED)
    viewers = np.unique(ratings.user)
    held = rng.permutation(viewers)[: int(HELD_OUT * len(viewers))]
    asked = np.isin(ratings.user, held)
    at = np.searchsorted(ratings.film_id, ratings.film)
    known = ratings.take(~asked)
    num = len(ratings.film_id)
    count = np.bincount(at[~asked], minlength=num)
    overall = known.stars.mean()
    total = np.bincount(at[~asked], known.stars, minlength=num)
    mean = (total + FEWEST * overall) / (count + FEWEST)  # few ratings count as the overall mean
    genres = ratings.genres.astype(np.float64)
    features = np.concatenate([genres, np.log1p(count)[:, None], mean[:, None]], axis=1)

    def pairs_of(rows: np.ndarray) -> Any:
        shuffled = rng.permutation(np.flatnonzero(rows))  # which film is named first says nothing
        user, film, stars = ratings.user[shuffled], at[shuffled], ratings.stars[shuffled]
        made = pairs_within(user, stars, user, MOST, SEED)
        return type(made)(film[made.first], film[made.second], made.prefers_first, made.person)

    train, test = pairs_of(~asked), pairs_of(asked)
    user = basic_weights(known, at[~asked])["user"]
    rivals = {"times_rated": count.astype(np.float64), "mean_rating": mean}
    rival = strongest(train, rivals)
    majority = bool(train.prefers_first.mean() >= 0.5)
    scores = {
        **rivals,
        "stakeholder_user": (genres * (mean / 5)[:, None]) @ user,
        "bradley_terry_genres": genres @ learn_from(genres, train),
        "bradley_terry": features @ learn_from(features, train),
    }
    return {
        "train_pairs": len(train),
        "test_pairs": len(test),
        "test_people": len(np.unique(test.person)),
        "strongest_popularity": rival,
        "accuracy": accuracies(test, scores, majority),
        "advantage": advantages(
            test,
            scores["bradley_terry"],
            {name: rivals[name] for name in ("times_rated", rival)},
            majority,
        ),
    }

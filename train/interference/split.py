"""What is learned from, what is asked and what is right: the protocols of the study.

Axes: n ratings, V viewers, H liked posts of a history, C candidates, P posts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from configs import Config
from train.interference.ratings import LIKED, NEUTRAL, Floats, Ids, Ratings


class SplitConfig(Config):
    """Whose newest liked posts are held out, and beside how many others they are ranked."""

    num_viewers: PositiveInt = 350  # at most
    least_history: NonNegativeInt = 20  # liked posts of a viewer before those held out
    num_held: PositiveInt = 3
    num_negatives: PositiveInt = 250  # drawn from what the viewer never rated
    seed: int = 20260430


@dataclass(frozen=True)
class Split:
    """Histories, and candidates of which some are right.

    Attributes:
        train: rows of the ratings that may be learned from. bool [n].
        viewer: int64 [V].
        history: liked posts, oldest first, -1 = padding. int64 [V, H].
        amplitude: stars above 3, 0 = padding. float64 [V, H].
        candidates: in an order that says nothing. int64 [V, C].
        hit: the held-out ones. bool [V, C].
        popularity: likes that may be learned from. int64 [P].
        long_tail: the 80 % of posts with the fewest. bool [P].
    """

    train: NDArray[np.bool_]
    viewer: Ids
    history: Ids
    amplitude: Floats
    candidates: Ids
    hit: NDArray[np.bool_]
    popularity: Ids
    long_tail: NDArray[np.bool_]

    @property
    def lengths(self) -> Ids:
        """Of the histories. [V]."""
        return (self.history >= 0).sum(1)

    def newest(self, most: int) -> Split:
        """The same with the newest `most` posts of each history."""
        history = np.full((len(self.viewer), min(most, self.history.shape[1])), -1)
        amplitude = np.zeros(history.shape)
        for row, length in enumerate(self.lengths):
            kept = slice(max(0, length - most), length)
            history[row, : min(length, most)] = self.history[row, kept]
            amplitude[row, : min(length, most)] = self.amplitude[row, kept]
        return replace(self, history=history, amplitude=amplitude)

    def of(self, rows: NDArray) -> Split:
        """The same of some viewers."""
        names = ("viewer", "history", "amplitude", "candidates", "hit")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def published(ratings: Ratings, config: SplitConfig) -> Split:
    """The published protocol: the last three positives of viewers drawn, beside 250 others.

    One generator shuffles the viewers, then draws and shuffles each one's candidates, in the
    order of their ids, so that the same ratings give the original's candidates.
    """
    rng = np.random.default_rng(config.seed)
    rows, start = ratings.rows_of(ratings.value >= LIKED)
    viewer = _drawn(start, config, config.num_held, rng)
    held = [rows[start[v + 1] - config.num_held : start[v + 1]] for v in viewer]
    before = [rows[start[v] : start[v + 1] - config.num_held] for v in viewer]
    return _split(ratings, viewer, before, held, np.concatenate(held), config, rng)


def for_ranker(
    ratings: Ratings, config: SplitConfig, repeat: int, num_learn: int
) -> tuple[Split, Split]:
    """Candidates to teach a ranker and candidates to test it, with the same histories.

    The last positives are for the test and as many before them for the ranker; neither is
    learned from otherwise. Negatives are drawn anew in each repeat, viewers are not.

    Args:
        ratings: of the set.
        config: of the split; num_negatives of the test.
        repeat: which draw of negatives.
        num_learn: negatives of each viewer that the ranker learns from.
    """
    num = config.num_held
    rows, start = ratings.rows_of(ratings.value >= LIKED)
    viewer = _drawn(start, config, 2 * num, np.random.default_rng(config.seed))
    before = [rows[start[v] : start[v + 1] - 2 * num] for v in viewer]
    held = np.concatenate([rows[start[v + 1] - 2 * num : start[v + 1]] for v in viewer])
    made = []
    for at, num_negatives in enumerate((num_learn, config.num_negatives)):
        end = [start[v + 1] - (1 - at) * num for v in viewer]
        right = [rows[e - num : e] for e in end]
        rng = np.random.default_rng([config.seed, repeat, at])
        drawn = config.model_copy(update={"num_negatives": num_negatives})
        made.append(_split(ratings, viewer, before, right, held, drawn, rng))
    return made[0], made[1]


def _drawn(start: Ids, config: SplitConfig, num_held: int, rng: np.random.Generator) -> Ids:
    """Viewers with positives enough, sorted. [V]."""
    able = np.flatnonzero(np.diff(start) >= config.least_history + num_held)
    if not len(able):
        raise ValueError(f"no viewer has {config.least_history + num_held} liked posts or more")
    rng.shuffle(able)
    return np.sort(able[: config.num_viewers])


def _split(
    ratings: Ratings,
    viewer: Ids,
    before: list[Ids],
    right: list[Ids],
    held: Ids,
    config: SplitConfig,
    rng: np.random.Generator,
) -> Split:
    """A split of rows of the ratings: each viewer's history and what is right."""
    train = np.ones(len(ratings.user), bool)
    train[held] = False
    rated, first = ratings.rows_of(np.ones(len(ratings.user), bool))
    candidates = []
    for v, rows in zip(viewer, right, strict=True):
        unrated = np.ones(ratings.num_items, bool)
        unrated[ratings.item[rated[first[v] : first[v + 1]]]] = False
        pool = np.flatnonzero(unrated)
        if len(pool) < config.num_negatives:
            raise ValueError(
                f"num_negatives is {config.num_negatives}; viewer {v} left {len(pool)} unrated"
            )
        negatives = rng.choice(pool, config.num_negatives, replace=False)
        candidates.append(rng.permutation(np.concatenate([ratings.item[rows], negatives])))
    history = np.full((len(viewer), max(map(len, before), default=0)), -1)
    amplitude = np.zeros(history.shape)
    for at, rows in enumerate(before):
        history[at, : len(rows)] = ratings.item[rows]
        amplitude[at, : len(rows)] = ratings.value[rows] - NEUTRAL
    likes = ratings.item[train & (ratings.value >= LIKED)]
    popularity = np.bincount(likes, minlength=ratings.num_items)
    long_tail = np.zeros(ratings.num_items, bool)
    fewest = np.argsort(popularity, kind="stable")
    long_tail[fewest[: int(np.ceil(0.8 * ratings.num_items))]] = True
    found = np.stack(candidates)
    hit = np.stack([np.isin(c, ratings.item[r]) for c, r in zip(found, right, strict=True)])
    return Split(train, viewer, history, amplitude, found, hit, popularity, long_tail)

"""Vectors of posts: factors of the ratings, of texts, and of texts through a prefix head.

Axes: U viewers, P posts, F factors, E width of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from configs import Config
from pipelines.data.encode import EncodeConfig, encode_texts, in_process
from train.interference.ratings import NEUTRAL, Floats, Ids, Ratings
from train.models.prefix import SeparatedHead
from train.prefix.objectives import FitConfig
from train.prefix.training import fit_head
from train.prefix_index import of_content


class FactorConfig(Config):
    """Alternating least squares as the original's evaluation does them."""

    num_factors: PositiveInt = 24
    num_sweeps: PositiveInt = 5
    ridge: PositiveFloat = 0.12  # on the diagonal, whatever the number of ratings
    first_size: PositiveFloat = 0.05  # standard deviation of what the sweeps begin with
    seed: int = 20260430


@dataclass(frozen=True)
class Factors:
    """Whose product predicts (stars - 3) / 2.

    Attributes:
        user, item: float64 [U, F] and [P, F].
    """

    user: Floats
    item: Floats


def factors(ratings: Ratings, train: NDArray[np.bool_], config: FactorConfig) -> Factors:
    """Alternating least squares without biases; who has no rating keeps the random start.

    Posts of which every rating is neutral end at exactly 0.

    Args:
        ratings: of the set.
        train: which rows are learned from. [n].
        config: of the factors.
    """
    rng = np.random.default_rng(config.seed)
    size = (ratings.num_users, ratings.num_items)
    user, item = (
        config.first_size * rng.standard_normal((num, config.num_factors)) for num in size
    )
    rows = np.flatnonzero(train)
    by_user = rows[np.argsort(ratings.user[rows], kind="stable")]
    by_item = rows[np.argsort(ratings.item[rows], kind="stable")]
    for _ in range(config.num_sweeps):
        _solve(user, item, ratings.user[by_user], ratings.item[by_user], by_user, ratings, config)
        _solve(item, user, ratings.item[by_item], ratings.user[by_item], by_item, ratings, config)
    return Factors(user, item)


def _solve(
    these: Floats,
    others: Floats,
    owner: Ids,
    other: Ids,
    rows: Ids,
    ratings: Ratings,
    config: FactorConfig,
) -> None:
    """Ridge regressions of each owner's ratings on the others' factors, in place."""
    target = (ratings.value[rows] - NEUTRAL) / 2
    start = np.searchsorted(owner, np.arange(len(these) + 1))
    ridge = config.ridge * np.eye(these.shape[1])
    for at in np.flatnonzero(np.diff(start)):
        own = slice(start[at], start[at + 1])
        x = others[other[own]]
        these[at] = np.linalg.solve(x.T @ x + ridge, x.T @ target[own])


def unit(vectors: NDArray) -> NDArray:
    """Vectors of length 1; those shorter than 1e-12 become 0."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 1e-12)


def of_texts(ratings: Ratings, config: EncodeConfig) -> NDArray[np.float32] | None:
    """Unit vectors of the posts' texts, encoded in this process; None where there are none.

    [P, E].

    Raises:
        InputError: no such encoder.
    """
    if ratings.texts is None:
        return None
    vectors, _ = encode_texts(ratings.texts, config, in_process)
    return unit(vectors.astype(np.float32))


def of_prefixes(
    content: NDArray[np.float32], topic: Ids, config: FitConfig, seed: int
) -> NDArray[np.float32]:
    """Unit vectors of texts by a head whose coarse part learned their first topics. [P, W].

    Both parts weigh the same, as in a served search by whole vectors.

    Args:
        content: of the texts, by the encoder. [P, E].
        topic: 0 = none. [P]; posts without one teach nothing.
        config: of a head with a part of its own for topics.
        seed: of the head.
    """
    has = topic > 0
    labels = np.unique(topic[has], return_inverse=True)[1][:, None]
    head = fit_head(content[has], labels, config, seed).head
    assert isinstance(head, SeparatedHead)
    return of_content(head, content)

"""MovieLens: three stakeholders over genres, and five bystanders.

A film is its genres times its mean rating over 5. `user` wants what is rated high, `platform`
what is rated high and often, `diversity` genres that films are rarely of. Bystanders, whose gain
is measured but whose weights are never learned: `creator`, `advertiser`, `niche`, `mainstream` and
`moderator`.

100K is read with its ua split or with one drawn at random; of 1M the ratings of each viewer in
order, cut 80 : 20, or by time where the release has times. Get both from
https://grouplens.org/datasets/movielens/ and mind their terms: they may not be passed on.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.data.reader import InputError, MissingInputError
from train.downloads import member
from train.preference.space import Space, unit_max

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FETCH = "fetch ml-100k.zip or ml-1m.zip from https://grouplens.org/datasets/movielens/"
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance"),
    *("Sci-Fi", "Thriller", "War", "Western"),
)
FEWEST = 5  # training ratings of a film of the pool
ORDER_SEED = 42  # of the pool's order, and of 100K's validation rows
NUM_TRAIN = 81_513  # ratings of 100K that are learned from
_VALIDATE = 0.1  # of ua.base, left out


@dataclass(frozen=True)
class Ratings:
    """Ratings and the films they are of. R ratings, F films, G genres.

    Attributes:
        user, film: int64 [R].
        stars: 1 to 5. float64 [R].
        film_id: int64 [F], ascending.
        genres: bool [F, G].
    """

    user: Ints
    film: Ints
    stars: Floats
    film_id: Ints
    genres: NDArray[np.bool_]

    def take(self, rows: NDArray) -> Ratings:
        """These ratings, of the same films."""
        return Ratings(
            self.user[rows], self.film[rows], self.stars[rows], self.film_id, self.genres
        )


def read_100k(folder: Path) -> tuple[Ratings, Ratings]:
    """Training ratings of the ua split, less a tenth drawn to validate on; and its test ratings.

    Raises:
        MissingInputError, InputError: files that are not there or cannot be read.
    """
    base, test = (
        _table(member(folder, "ml-100k.zip", f"ua.{part}", FETCH), "\t", ("user", "film", "stars"))
        for part in ("base", "test")
    )
    films = _films_100k(folder)
    base = base.sort("user", "film")
    kept = np.random.default_rng(ORDER_SEED).permutation(len(base))[int(_VALIDATE * len(base)) :]
    train = base[np.sort(kept)]
    return _ratings(train, *films), _ratings(test, *films)


def read_1m(folder: Path) -> tuple[Ratings, Ratings]:
    """The first 80 % of the ratings to train on, the last 10 % to test on.

    By time where ratings.dat has it; a copy with places alone (ratings_no_timestamps.parquet) is
    cut by how far in each viewer's own order a rating stands, which is another split.

    Raises:
        MissingInputError, InputError: files that are not there or cannot be read.
    """
    lines = member(folder, "ml-1m.zip", "movies.dat", FETCH).decode("latin-1").splitlines()
    rows = [line.split("::") for line in lines if line]
    film_id = np.array([int(row[0]) for row in rows], np.int64)
    genres = np.array([[name in row[2].split("|") for name in GENRES] for row in rows])
    columns = ("user", "film", "stars", "at")
    try:
        content = member(folder, "ml-1m.zip", "ratings.dat", FETCH).replace(b"::", b"\t")
        table = _table(content, "\t", columns).sort("at", maintain_order=True)
    except (MissingInputError, InputError):
        content = member(folder, "ml-1m.zip", "ratings_no_timestamps.parquet", FETCH)
        table = pl.read_parquet(io.BytesIO(content)).drop_nulls()
        table = table.select(pl.all().cast(pl.Int64)).rename(
            dict(zip(("UserID", "MovieID", "Rating", "SeqRank"), columns, strict=True))
        )
        place = (pl.col("at").rank("ordinal") / pl.len()).over("user")
        table = table.with_columns(place.alias("place")).sort("place", "user", maintain_order=True)
    num = len(table)
    train, test = table[: int(0.8 * num)], table[int(0.9 * num) :]
    return _ratings(train, film_id, genres), _ratings(test, film_id, genres)


def read_100k_at_random(folder: Path, seed: int = 42) -> Ratings:
    """As many training ratings as `read_100k` gives, drawn from all 100,000 without its split.

    Raises:
        MissingInputError, InputError: files that are not there or cannot be read.
    """
    table = _table(member(folder, "ml-100k.zip", "u.data", FETCH), "\t", ("user", "film", "stars"))
    table = table.sort("user", "film")
    kept = np.random.default_rng(seed).permutation(len(table))[:NUM_TRAIN]
    return _ratings(table[np.sort(kept)], *_films_100k(folder))


def space(name: str, train: Ratings) -> Space:
    """Films with enough training ratings, the stakeholders and the bystanders.

    Args:
        name: of the data set.
        train: ratings.
    """
    num = len(train.film_id)
    at = np.searchsorted(train.film_id, train.film)
    count = np.bincount(at, minlength=num)
    mean = np.bincount(at, train.stars, minlength=num) / np.maximum(count, 1)
    pool = np.sort(train.film_id[(count >= FEWEST) & train.genres.any(axis=1)])
    np.random.default_rng(ORDER_SEED).shuffle(pool)
    row = np.searchsorted(train.film_id, pool)
    features = train.genres[row] * (mean[row] / 5)[:, None]
    weights, bystanders = basic_weights(train, at), bystander_weights(train, at)
    story = {"ratings": len(train.stars), "films": len(pool), "viewers": len(set(train.user))}
    topic = train.genres[row].argmax(axis=1)
    return Space.of(name, features, topic, weights, GENRES, story, bystanders=bystanders)


def basic_weights(train: Ratings, at: Ints) -> dict[str, Floats]:
    """user, platform and diversity; [G] each. `at` is the row of each rating's film."""
    of_genre = train.genres[at].astype(np.float64)  # [R, G]
    count = of_genre.sum(axis=0)
    there, safe = count > 0, np.maximum(count, 1)
    mean = train.stars @ of_genre / safe
    share = count / count.sum()
    return {
        "user": unit_max(np.where(there, mean - 3, 0)),
        "platform": unit_max(np.where(there, mean * np.log2(count + 1), 0)),
        "diversity": unit_max(np.where(there, 1 / there.sum() - share, 0)),
    }


def bystander_weights(train: Ratings, at: Ints) -> dict[str, Floats]:
    """creator, advertiser, niche, mainstream and moderator, from counts. [G] each."""
    of_genre = train.genres[at].astype(np.float64)
    count = of_genre.sum(axis=0)
    films = train.genres.sum(axis=0).astype(np.float64)
    low = (train.stars <= 2).astype(np.float64) @ of_genre / np.maximum(count, 1)
    largest = np.zeros(len(films))
    largest[np.argsort(films, kind="stable")[-3:]] = 1  # of equal ones the last, as published
    return {
        "creator": unit_max(films),
        "advertiser": unit_max(count),
        "niche": np.where(films < np.median(films), 1.0, -1.0),
        "mainstream": largest,
        "moderator": -unit_max(low),
    }


def _films_100k(folder: Path) -> tuple[Ints, NDArray[np.bool_]]:
    """Ids and genres. [F] and [F, G]."""
    items = member(folder, "ml-100k.zip", "u.item", FETCH).decode("latin-1").splitlines()
    rows = [line.split("|") for line in items if line]
    genres = np.array([[flag == "1" for flag in row[5:24]] for row in rows])
    return np.array([int(row[0]) for row in rows], np.int64), genres


def _table(content: bytes, separator: str, columns: tuple[str, ...]) -> pl.DataFrame:
    try:
        table = pl.read_csv(io.BytesIO(content), separator=separator, has_header=False)
        named = dict(zip(table.columns, columns, strict=False))
        return table.rename(named).select(pl.col(*columns).cast(pl.Int64))
    except pl.exceptions.PolarsError as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"MovieLens ratings: cannot be read ({first}); {FETCH}") from error


def _ratings(table: pl.DataFrame, film_id: Ints, genres: NDArray[np.bool_]) -> Ratings:
    order = np.argsort(film_id)
    user, film, stars = (table[name].to_numpy() for name in ("user", "film", "stars"))
    return Ratings(user, film, stars.astype(np.float64), film_id[order], genres[order])

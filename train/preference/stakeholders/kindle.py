"""Kindle books of Amazon Reviews 2023: five stakeholders over genres, price, volume and length.

A book is its genres (the 20 most frequent), and one of each: price free, below 5, 5 to 15, above;
reviews below 50, below 500, more; mean stars below 3, below 4, more; pages below 200 or not.
Where a price or a page count is not known the book is none of its kinds.

Get Kindle_Store.csv.gz (5-core, with timestamps) and meta_Kindle_Store.jsonl.gz from
https://amazon-reviews-2023.github.io/ and mind their terms.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.data.reader import InputError
from train.downloads import found
from train.preference.space import Space, unit_max

Floats = NDArray[np.float64]

FETCH = (
    "fetch Kindle_Store.csv.gz (5-core) and meta_Kindle_Store.jsonl.gz from "
    "https://amazon-reviews-2023.github.io/"
)
NUM_GENRES, NUM_BOOKS, FEWEST = 20, 20_000, 5  # FEWEST: ratings of a viewer, and of a book
PRICES = ("free", "price_below_5", "price_5_to_15", "price_above_15")
VOLUMES = ("reviews_below_50", "reviews_below_500", "reviews_more")
STARS = ("stars_below_3", "stars_below_4", "stars_more")
PAGES = ("pages_below_200", "pages_more")
_GENERAL = {"Kindle Store", "Kindle eBooks", "Books"}  # of every book


@dataclass(frozen=True)
class _Book:
    """What is known of a book."""

    genres: tuple[str, ...]
    price: float | None
    reviews: int
    pages: int | None


def read(folder: Path) -> Space:
    """The pool and its five stakeholders, from the first 80 % of the ratings by time.

    Raises:
        MissingInputError, InputError: files that are not there or cannot be read.
    """
    ratings, books = (
        found(folder, name, FETCH) for name in ("Kindle_Store.csv.gz", "meta_Kindle_Store.jsonl.gz")
    )
    try:
        return _read(ratings, books)
    except (pl.exceptions.PolarsError, ValueError, EOFError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"{folder}: Kindle's files cannot be read ({first}); {FETCH}") from error


def _read(ratings_file: Path, books_file: Path) -> Space:
    ratings = pl.read_csv(ratings_file)
    ratings = ratings.rename({"parent_asin": "book", "user_id": "user", "rating": "stars"})
    top = ratings.group_by("book").len().sort(["len", "book"], descending=[True, False])
    ratings = ratings.join(top.head(NUM_BOOKS).select("book"), on="book")
    ratings = ratings.filter(pl.len().over("user") >= FEWEST).sort("timestamp")
    train = ratings[: int(0.8 * len(ratings))]
    of_book = train.group_by("book").agg(pl.col("stars").mean(), pl.len().alias("num"))
    of_book = of_book.filter(pl.col("num") >= FEWEST).sort("book")
    books = _books(books_file, set(of_book["book"]))
    of_book = of_book.filter(pl.col("book").is_in(list(books)))
    train = train.join(of_book.select("book"), on="book")
    return space(of_book, train, books)


def space(of_book: pl.DataFrame, train: pl.DataFrame, books: Mapping[str, _Book]) -> Space:
    """Features and weights.

    Args:
        of_book: book, mean stars and num of ratings of the pool.
        train: ratings of those: book, stars.
        books: what is known of each.
    """
    ids = of_book["book"].to_list()
    counted = Counter(name for book in ids for name in books[book].genres)
    genres = tuple(sorted(sorted(counted), key=lambda name: -counted[name])[:NUM_GENRES])
    stars, row = of_book["stars"].to_numpy(), {book: at for at, book in enumerate(ids)}
    kinds = [_kinds(books[book], mean) for book, mean in zip(ids, stars, strict=True)]
    names = (*genres, *PRICES, *VOLUMES, *STARS, *PAGES)
    of_genre = np.array([[name in books[book].genres for name in genres] for book in ids], float)
    others = np.array([[name in own for name in names[len(genres) :]] for own in kinds], float)
    rated = of_genre[[row[book] for book in train["book"]]]
    weights = _weights(
        of_genre, rated, train["stars"].to_numpy(), [books[book].reviews for book in ids]
    )
    topic = np.where(of_genre.any(axis=1), of_genre.argmax(axis=1), len(genres))
    story = {"books": len(ids), "ratings": len(train)}
    features = np.concatenate([of_genre, others], axis=1)
    return Space.of("kindle", features, topic, weights, names, story)


def _weights(of_genre: Floats, rated: Floats, stars: Floats, reviews: list[int]) -> dict[str, Any]:
    count, written = rated.sum(axis=0), of_genre.sum(axis=0)
    mean = rated.T @ (stars - 3) / np.maximum(count, 1)
    share = count / max(1.0, count.sum())
    largest = np.zeros(len(written))
    largest[np.argsort(-written, kind="stable")[:3]] = 1
    small = (written < np.median(written)) & (largest == 0)
    none = np.zeros(len(written))
    active = count > 0
    diversity = np.where(active, 1 / max(1, active.sum()) - share, 0)
    # Genres, then price (4), volume (3), stars (3), pages (2).
    return {
        "reader": np.r_[unit_max(mean), 0, 0.2, 0.3, 0, 0, 0, 0, -0.5, 0.2, 0.5, 0, 0],
        "publisher": np.r_[
            unit_max(of_genre.T @ np.array(reviews, float)),
            *(0, 0, 0, 0, -0.2, 0.3, 0.6, 0, 0, 0, 0, 0),
        ],
        "indie_author": np.r_[0.5 * small - largest, 0, 0, 0, 0, 0.8, 0.2, -0.8, 0, 0, 0, 0, 0],
        "premium_seller": np.r_[none, -1, -0.3, 0.3, 1, 0, 0, 0, -0.8, 0, 0.8, -0.2, 0.4],
        "diversity": np.r_[unit_max(diversity), np.zeros(12)],
    }


def _kinds(book: _Book, stars: float) -> set[str]:
    kinds = {_step(stars, (3, 4), STARS), _step(book.reviews, (50, 500), VOLUMES)}
    if book.price is not None:
        paid = _step(book.price, (5, 15.0001), PRICES[1:])
        kinds.add(PRICES[0] if book.price == 0 else paid)
    if book.pages is not None:
        kinds.add(_step(book.pages, (200,), PAGES))
    return kinds


def _step(value: float, bounds: tuple[float, ...], names: tuple[str, ...]) -> str:
    return names[sum(value >= bound for bound in bounds)]


def _books(path: Path, wanted: set[str]) -> dict[str, _Book]:
    return {
        item["parent_asin"]: _Book(
            genres=tuple(n for n in item.get("categories") or () if n not in _GENERAL),
            price=_number(item.get("price")),
            reviews=int(item.get("rating_number") or 0),
            pages=_whole((item.get("details") or {}).get("Print length")),
        )
        for item in _lines(path)
        if item.get("parent_asin") in wanted
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _number(value: Any) -> float | None:
    try:
        return float(str(value).lstrip("$"))
    except ValueError:
        return None


def _whole(value: Any) -> int | None:
    digits = re.search(r"\d+", str(value).replace(",", ""))
    return int(digits.group()) if digits else None

"""Kindle's reader on a few made-up books and ratings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.data.reader import InputError
from train.preference.stakeholders import kindle

BOOKS = {
    "B1": (["Books", "Romance"], "$0.00", 10, "120 pages"),
    "B2": (["Kindle Store", "Mystery"], 4.99, 600, "1,200 pages"),
    "B3": (["Romance"], None, 70, None),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten viewers rate each of three books; B1 is loved and B2 is not."""
    stars = {"B1": 5.0, "B2": 2.0, "B3": 3.5}
    rows = [
        f"U{user},{book},{stars[book]},{1_000 * user + at},"
        for user in range(10)
        for again in range(2)
        for at, book in enumerate(BOOKS)
    ]
    header = "user_id,parent_asin,rating,timestamp,history"
    with gzip.open(tmp_path / "Kindle_Store.csv.gz", "wt") as file:
        file.write("\n".join([header, *rows]))
    with gzip.open(tmp_path / "meta_Kindle_Store.jsonl.gz", "wt") as file:
        for book, (genres, price, reviews, pages) in BOOKS.items():
            item = {"parent_asin": book, "categories": genres, "price": price}
            item |= {"rating_number": reviews, "details": {"Print length": pages}}
            file.write(json.dumps(item) + "\n")
    return tmp_path


def test_books_are_their_genres_and_kinds(folder):
    """Price, reviews, stars and pages fall into their steps; what is unknown is in none."""
    space = kindle.read(folder)
    names = np.array(space.feature_names)
    kinds = {tuple(names[row > 0]) for row in space.features}
    assert ("Romance", "free", "reviews_below_50", "stars_more", "pages_below_200") in kinds
    assert ("Mystery", "price_below_5", "reviews_more", "stars_below_3", "pages_more") in kinds
    assert ("Romance", "reviews_below_500", "stars_below_4") in kinds


def test_readers_want_loved_genres_and_sellers_high_prices(folder):
    """The reader dislikes the genre rated 2; the premium seller dislikes what is free."""
    space = kindle.read(folder)
    names = space.feature_names
    reader, seller = (space.weights[space.of_stakeholder(n)] for n in ("reader", "premium_seller"))
    assert reader[names.index("Romance")] > 0 > reader[names.index("Mystery")]
    assert seller[names.index("free")] == -1
    assert seller[names.index("price_above_15")] == 1


@pytest.mark.parametrize("name", ["Kindle_Store.csv.gz", "meta_Kindle_Store.jsonl.gz"])
def test_files_that_cannot_be_read_are_told(folder, name):
    """A download that broke off is an error that says what to fetch."""
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cannot be read .*; fetch"):
        kindle.read(folder)

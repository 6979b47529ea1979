"""20 Newsgroups, split by date: 7 hierarchies → 20 groups.

Lang 1995. Header lines are left out, since they name the group's people and machines, and of
the rest the first 512 characters are read.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from train.downloads import found
from train.prefix.labelled import LabelledTexts

FILE = "20newsgroups_bydate.parquet"
FETCH = (
    "fetch 20news-bydate.tar.gz from http://qwone.com/~jason/20Newsgroups/ and write it as Parquet "
    "with columns split (train or test), newsgroup and text"
)
NUM_CHARACTERS = 512


def read(folder: Path) -> LabelledTexts:
    """Hierarchy and group of 11,314 posts to train on and 7,532 to test on, less empty ones."""
    posts = pl.read_parquet(found(folder, FILE, FETCH), columns=["split", "newsgroup", "text"])
    body = [_body(text) for text in posts["text"]]
    posts = posts.with_columns(text=pl.Series(body)).filter(pl.col("text") != "")
    group = posts["newsgroup"].to_list()
    levels = ([name.partition(".")[0] for name in group], group)
    test = (posts["split"] == "test").to_numpy()
    return LabelledTexts.of("newsgroups", posts["text"].to_list(), levels, test)


def _body(post: str) -> str:
    return post.replace("\r\n", "\n").partition("\n\n")[2].strip()[:NUM_CHARACTERS].strip()

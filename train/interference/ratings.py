"""What viewers thought of posts, one row for each that they rated, from MovieLens and KuaiRand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.data.reader import MissingInputError, make_reader
from pipelines.data.readers.movielens import GENRES, Movielens
from pipelines.schema import ACTION_NAMES

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

LIKED, NEUTRAL, DISLIKED = 4.0, 3.0, 2.0  # from here up, and down
_LIKE = 1 << ACTION_NAMES.index("favorite")
_LIKES = "kuairand_27k_like_hate/processed_standard_kcore_15.parquet"


@dataclass(frozen=True)
class Ratings:
    """Rows in the order of the file; a viewer rates a post once.

    Attributes:
        user, item: numbered from 0 in the order of their ids. int64 [n].
        value: 1 to 5. float64 [n].
        at: later is larger; equal ones are in the order of the rows. int64 [n].
        num_users, num_items: how many there are.
        texts: of each item, None where it has none.
        topic: first topic of each item, 0 = none. int64 [P]; None where there are none.
    """

    user: Ids
    item: Ids
    value: Floats
    at: Ids
    num_users: int
    num_items: int
    texts: tuple[str, ...] | None = None
    topic: Ids | None = None

    @property
    def fingerprint(self) -> str:
        """Of the rows."""
        rows = np.stack([self.user, self.item, self.at]).tobytes() + self.value.tobytes()
        return hashlib.sha256(rows).hexdigest()[:12]

    def rows_of(self, chosen: NDArray[np.bool_]) -> tuple[Ids, Ids]:
        """Chosen rows by user, oldest first, and where each user's begin [U + 1]."""
        rows = np.flatnonzero(chosen)
        rows = rows[np.lexsort((self.at[rows], self.user[rows]))]
        return rows, np.searchsorted(self.user[rows], np.arange(self.num_users + 1))


def made(
    user_id: Ids,
    item_id: Ids,
    value: Floats,
    at: Ids,
    texts: dict[int, str] | None = None,
    topics: dict[int, int] | None = None,
) -> Ratings:
    """Ratings of any ids. [n] each; texts and first topics by item id."""
    users, user = np.unique(user_id, return_inverse=True)
    items, item = np.unique(item_id, return_inverse=True)
    of_items = None if texts is None else tuple(texts.get(int(i), "") for i in items)
    topic = None if topics is None else np.array([topics.get(int(i), 0) for i in items])
    return Ratings(user, item, value, at, len(users), len(items), of_items, topic)


def movielens(file: Path) -> Ratings:
    """Any MovieLens; ratings without a place among their viewer's count as the oldest.

    Raises:
        MissingInputError: it is not there; the text says where to fetch it.
    """
    reader = Movielens(path=str(file), ranks=True)
    rows = reader.ratings()
    films = pl.concat(
        pl.DataFrame(batch.table)
        for fragment in reader.fragments()
        if fragment.table == "posts"
        for batch in reader.read(fragment)
    )
    texts, first = {}, {}
    for film, title, topics in films.select("post_id", "text", "topic_ids").iter_rows():
        texts[film] = f"{title}. {', '.join(GENRES[t - 1] for t in topics)}"
        first[film] = topics[0] if topics else 0
    user, item, stars = (rows[name].to_numpy() for name in ("userId", "movieId", "rating"))
    return made(user, item, stars, rows["timestamp"].fill_null(0).to_numpy(), texts, first)


def kuairand(_: Path) -> Ratings:
    """The bundled short-video log: 5 liked, 4 clicked, 2 shown and neither, 1 hated.

    What was watched before the log comes first. Of several showings the best counts.
    """
    reader = make_reader({"name": "kuairand"})
    tables: dict[str, list[pl.DataFrame]] = {"events": [], "histories": []}
    for fragment in reader.fragments():
        if fragment.table in tables:
            tables[fragment.table] += [pl.DataFrame(b.table) for b in reader.read(fragment)]
    event, before = (pl.concat(parts) for parts in tables.values())
    flag = {name: pl.col(name).cast(pl.Boolean) for name in ("favorite", "click", "not_interested")}
    shown = event.select(
        "user_id",
        "post_id",
        value=pl.when(flag["not_interested"])
        .then(1.0)
        .when(flag["favorite"])
        .then(5.0)
        .when(flag["click"])
        .then(LIKED)
        .otherwise(DISLIKED),
        at="shown_at_ms",
    )
    watched = (
        before.explode("post_ids", "did")
        .drop_nulls("post_ids")
        .with_columns(at=pl.int_range(pl.len()).over("user_id"))
        .select(
            "user_id",
            post_id="post_ids",
            value=pl.when(pl.col("did") & _LIKE != 0).then(5.0).otherwise(LIKED),
            at="at",
        )
    )
    rows = pl.concat([watched, shown]).sort("value", "at", maintain_order=True)
    rows = rows.unique(["user_id", "post_id"], keep="last", maintain_order=True)
    user, item, value, at = (
        rows[name].to_numpy() for name in ("user_id", "post_id", "value", "at")
    )
    return made(user, item, value, at)


def kuairand_likes(file: Path) -> Ratings:
    """Rows of KuaiRand-27K with a like (5) or a hate (1); of several the last counts.

    Raises:
        MissingInputError: it is not there; the text says how to make it.
    """
    if not file.exists():
        raise MissingInputError(
            f"{file}: no such file; fetch KuaiRand-27K.tar.gz from https://kuairand.com and keep "
            "the rows of its standard logs with is_like or is_hate, as Parquet with user_id, "
            "video_id, time_ms and label (1 = liked)"
        )
    rows = pl.read_parquet(file).sort("time_ms", maintain_order=True)
    rows = rows.unique(["user_id", "video_id"], keep="last", maintain_order=True)
    user, item, label, at = (
        rows[name].to_numpy() for name in ("user_id", "video_id", "label", "time_ms")
    )
    return made(user, item, np.where(label == 1, 5.0, 1.0), at)


# Set -> what reads it, and its file in the folder of the data.
SETS: dict[str, tuple[Callable[[Path], Ratings], str]] = {
    "ml-100k": (movielens, "ml-100k.zip"),
    "ml-1m": (movielens, "ml-1m.zip"),
    "ml-latest-small": (movielens, "ml-latest-small.zip"),
    "kuairand": (kuairand, ""),
    "kuairand-27k": (kuairand_likes, _LIKES),
}


def read(name: str, folder: Path) -> Ratings:
    """A set by its name.

    Raises:
        MissingInputError: its file is not in the folder; the text says where to fetch it.
    """
    reader, file = SETS[name]
    return reader(folder / file)

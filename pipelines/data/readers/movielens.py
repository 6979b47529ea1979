"""MovieLens (GroupLens): film ratings, in the latest-small, 100K, 1M and 25M layouts.

A rating is a stand-in for a watched post, and a poor one: there are no impressions, so nothing
says what a viewer saw and left. Each rating becomes one event at the time it was given, with

- `click` true in every row: the viewer chose the film;
- `favorite` true for 4 stars or more;
- `not_interested` true for 2 stars or fewer.

All other actions, and the time spent, are not observed. Genres are topics; titles are text;
there are no authors.

Copies of 1M that give the place of each rating among its viewer's instead of a time
(ratings_no_timestamps.parquet) are read only with `ranks: true`: then a made-up clock ticks a
second a rating, its times mean an order and nothing else, and only split.leave_last_out makes
sense. Ratings without a place are rejected rows.
Get the archives from https://grouplens.org/datasets/movielens/ and mind their terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import fsspec
import polars as pl
import pyarrow as pa

from pipelines.data import files, text
from pipelines.data.reader import Batch, Fragment, MissingInputError, Reader

LIKED, DISLIKED = 4.0, 2.0  # stars
FETCH = (
    "fetch ml-latest-small.zip, ml-100k.zip, ml-1m.zip or ml-25m.zip from "
    "https://grouplens.org/datasets/movielens/ and give reader.path the archive or the "
    "unpacked folder"
)
# Topic of a genre = its place here, from 1.
GENRES = (
    *("Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller"),
    *("War", "Western", "IMAX"),
)
NO_GENRE = "(no genres listed)"


@dataclass(frozen=True)
class Source:
    """One file of a release.

    Attributes:
        table: what it becomes.
        file: its name.
        names: its columns in order, for a file whose first line does not name them.
        header: columns to look for, where the first line does.
        separator: between columns, where there is no comma; such files are Latin-1.
    """

    table: str
    file: str
    names: tuple[str, ...] | None = None
    separator: str = ","
    header: tuple[str, ...] = ()
    ranks: bool = False  # a Parquet file with places instead of times

    def clean(self, block: bytes) -> bytes:
        """Lines in UTF-8 with a separator of one byte."""
        if self.separator == ",":
            return block
        return block.decode("latin-1").replace(self.separator, "\x1f").encode()


_RATING = ("userId", "movieId", "rating", "timestamp")
_100K_USER = ("userId", "age", "gender", "occupation", "zip")
_100K_MOVIE = ("movieId", "title", "release", "video", "imdb", NO_GENRE, *GENRES[:-1])
_1M_MOVIE = ("movieId", "title", "genres")
_1M_USER = ("userId", "gender", "age", "occupation", "zip")
_RANKED = ("UserID", "MovieID", "Rating", "SeqRank")
_RANKS_FROM_S = 946_684_800  # 2000-01-01 UTC: where the made-up clock begins
# The first source of a layout tells it from the others.
LAYOUTS = (
    (
        Source("events", "ratings.csv", header=_RATING),
        Source("posts", "movies.csv", header=_1M_MOVIE),
    ),
    (
        Source("events", "ratings.dat", _RATING, "::"),
        Source("posts", "movies.dat", _1M_MOVIE, "::"),
        Source("users", "users.dat", _1M_USER, "::"),
    ),
    (
        Source("events", "u.data", _RATING, "\t"),
        Source("posts", "u.item", _100K_MOVIE, "|"),
        Source("users", "u.user", _100K_USER, "|"),
    ),
    (
        Source("events", "ratings_no_timestamps.parquet", ranks=True),
        Source("posts", "movies.dat", _1M_MOVIE, "::"),
        Source("users", "users.dat", _1M_USER, "::"),
    ),
)
_TYPES = {"userId": pa.int64(), "movieId": pa.int64(), "rating": pa.float64()}
_TYPES |= {"timestamp": pa.int64(), **dict.fromkeys(GENRES, pa.int64())}
_IGNORED = {"release", "video", "imdb", "zip", NO_GENRE}


class Movielens(Reader):
    """Reads an archive as downloaded, or the folder that it unpacks to."""

    path: str  # .zip file or folder
    ranks: bool = False  # take places of ratings for times, where the release has no times

    action_names: ClassVar[dict[str, str]] = {
        "click": "rated",
        "favorite": "rated >= 4",
        "not_interested": "rated <= 2",
    }

    def fragments(self) -> list[Fragment]:
        """Users and films, then the ratings."""
        have = self._members()
        for layout in LAYOUTS:
            if layout[0].file not in have or (layout[0].ranks and not self.ranks):
                continue
            for source in layout:
                if source.file not in have:
                    raise MissingInputError(f"{self.path}: no {source.file}; {FETCH}")
            found = [text.text_fragment(s.table, have[s.file]) for s in reversed(layout[1:])]
            if layout[0].ranks:
                return found + files.parquet_fragments("events", have[layout[0].file])[0]
            return [*found, text.text_fragment("events", have[layout[0].file])]
        why = "no ratings.csv, ratings.dat or u.data"
        if "ratings_no_timestamps.parquet" in have:
            why += ": only ratings_no_timestamps.parquet, which needs ranks: true"
        raise MissingInputError(f"{self.path}: {why}; {FETCH}")

    def read(self, fragment: Fragment) -> Iterator[Batch]:
        """Stream one file."""
        convert = {"events": _events, "posts": _posts, "users": _users}[fragment.table]
        for batch in self._raw(fragment):
            yield Batch(convert(pl.DataFrame(batch.table)), batch.row, batch.rejected)

    def ratings(self) -> pl.DataFrame:
        """Every rating with its stars, in the order of the file.

        Returns:
            userId, movieId, timestamp int64, rating float64; times are seconds, null for a
            rating without a place.
        """
        parts = [
            pl.DataFrame(batch.table)
            for fragment in self.fragments()
            if fragment.table == "events"
            for batch in self._raw(fragment)
        ]
        stars = pl.col("rating").cast(pl.Float64)
        return pl.concat(parts).select(
            pl.col("userId", "movieId", "timestamp").cast(pl.Int64), stars
        )

    def _raw(self, fragment: Fragment) -> Iterator[Batch]:
        """One file by the release's own names of columns."""
        name = fragment.path.split("::")[0].rsplit("/", 1)[-1]
        source = next(s for layout in LAYOUTS for s in layout if s.file == name)
        if source.ranks:
            for batch in files.read_parquet(fragment, list(_RANKED)):
                yield Batch(_with_times(pl.DataFrame(batch.table)).to_arrow(), batch.row)
            return
        wanted = [n for n in source.names or source.header if n not in _IGNORED]
        types = {n: _TYPES.get(n, pa.string()) for n in wanted}
        names = list(source.names) if source.names else None
        delimiter = "," if source.separator == "," else "\x1f"
        yield from text.read_csv(
            fragment, types, names=names, delimiter=delimiter, clean=source.clean
        )

    def _members(self) -> dict[str, str]:
        """Name of each file that is there -> where."""
        fs, folder = fsspec.core.url_to_fs(self.path)
        if not fs.exists(folder):
            raise MissingInputError(f"{self.path}: no such file or folder; {FETCH}")
        if self.path.endswith(".zip"):
            inside = fsspec.filesystem("zip", fo=self.path).find("")
            urls = [f"zip://{member}::{self.path}" for member in inside]
            return {
                member.rsplit("/", 1)[-1]: url for member, url in zip(inside, urls, strict=True)
            }
        return {path.rsplit("/", 1)[-1]: path for path in files.find_files(self.path, FETCH)}


def _with_times(raw: pl.DataFrame) -> pl.DataFrame:
    """Ratings by place as ratings by time, a second a place; no place, no time."""
    place = pl.col("SeqRank").cast(pl.Int64)
    named = raw.rename({"UserID": "userId", "MovieID": "movieId", "Rating": "rating"})
    return named.with_columns(timestamp=_RANKS_FROM_S + place)


def _events(raw: pl.DataFrame) -> pa.Table:
    return raw.select(
        user_id="userId",
        post_id="movieId",
        shown_at_ms=pl.col("timestamp") * 1000,
        click=True,
        favorite=pl.col("rating") >= LIKED,
        not_interested=pl.col("rating") <= DISLIKED,
    ).to_arrow()


def _posts(raw: pl.DataFrame) -> pa.Table:
    if "genres" in raw.columns:
        names = pl.col("genres").str.replace("Children's", "Children", literal=True)
        known = names.str.split("|").list.eval(pl.element().replace_strict(_TOPICS, default=None))
        topics = known.list.drop_nulls()
    else:
        flags = [pl.when(pl.col(g) == 1).then(_TOPICS[g]) for g in GENRES[:-1]]
        topics = pl.concat_list(flags).list.drop_nulls()
    return raw.select(
        post_id="movieId", text="title", topic_ids=topics.cast(pl.List(pl.Int64))
    ).to_arrow()


def _users(raw: pl.DataFrame) -> pa.Table:
    facts = [pl.format(f"{name}={{}}", pl.col(name)) for name in ("gender", "age", "occupation")]
    return raw.select(user_id="userId", attributes=pl.concat_list(facts)).to_arrow()


_TOPICS = {name: at for at, name in enumerate(GENRES, 1)}

"""Deskdrop (CI&T): a year of articles shared and read inside one company.

https://www.kaggle.com/datasets/gspmoreira/articles-sharing-reading-from-cit-deskdrop. What one
viewer did with one article in one session becomes one event at the time of the first of it, with

- `click` true in every row: whoever acted on an article had opened it; there are no impressions;
- `favorite`, `reply` where there was a LIKE, a COMMENT CREATED;
- `bookmark`, `follow_comments` (news of further comments was wanted: that is FOLLOW here) beside
  the actions of the contract.

Other actions and the time spent are not observed. Titles are text; an article counts as published
when it was first viewed; its author is not read. Ids are signed there: the sign bit is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import fsspec
import numpy as np
import polars as pl

from pipelines.data import files
from pipelines.data.files import first_line
from pipelines.data.reader import Batch, Fragment, InputError, MissingInputError, Reader
from pipelines.schema import Action, extend_actions

FETCH = (
    'fetch "Articles sharing and reading from CI&T DeskDrop" from https://www.kaggle.com/datasets/'
    "gspmoreira/articles-sharing-reading-from-cit-deskdrop, unpack it, and give reader.path the "
    "folder with users_interactions.csv and shared_articles.csv"
)
# A file by the names that it goes by: as downloaded, or as Parquet with the titles alone.
LOG = ("users_interactions.csv", "users_interactions.parquet")
ARTICLES = ("shared_articles.csv", "article_titles.parquet")
_LOG = dict.fromkeys(("timestamp", "personId", "contentId", "sessionId"), pl.Int64)
COLUMNS = {
    LOG: {**_LOG, "eventType": pl.String, "userAgent": pl.String, "userCountry": pl.String},
    ARTICLES: {"contentId": pl.Int64, "title": pl.String},
}
ACTIONS = {
    "favorite": "LIKE",
    "reply": "COMMENT CREATED",
    "bookmark": "BOOKMARK",
    "follow_comments": "FOLLOW",
}
KINDS = ("VIEW", *ACTIONS.values())
# Worth of the two that the public stack does not have: as that of a like.
EXTRA = (Action("bookmark", weight=0.5), Action("follow_comments", weight=0.5))
WEB, ANDROID, IOS = 1, 2, 3  # surfaces


class Deskdrop(Reader):
    """Reads the unpacked download: all of a file at once, since the whole log is small."""

    path: str  # folder of the files

    action_names: ClassVar[dict[str, str]] = {
        "click": "view",
        "favorite": "like",
        "reply": "comment",
    }

    @property
    def actions(self) -> tuple[Action, ...]:
        """Those of the contract and EXTRA."""
        return extend_actions(EXTRA)

    def fragments(self) -> list[Fragment]:
        """Articles and viewers, then the log."""
        log, articles = self._file(LOG), self._file(ARTICLES)
        sizes = [fsspec.core.url_to_fs(path) for path in (log, articles)]
        rows = [int(fs.size(inner) or 0) // 64 for fs, inner in sizes]  # a guess
        return [
            Fragment("posts", articles, rows[1]),
            Fragment("users", log, rows[0]),
            Fragment("events", log, rows[0]),
        ]

    def read(self, fragment: Fragment) -> Iterator[Batch]:
        """One batch: the whole file."""
        log = _read(self._file(LOG), COLUMNS[LOG])
        if fragment.table == "posts":
            rows = _posts(_read(fragment.path, COLUMNS[ARTICLES]), log)
        elif fragment.table == "users":
            rows = _users(log)
        else:
            rows = _events(log, fragment.path)
        row = rows["row"].to_numpy().astype(np.int64)
        yield Batch(rows.drop("row").to_arrow(), row)

    def _file(self, names: tuple[str, ...]) -> str:
        for name in names:
            if files.exists(f"{self.path}/{name}"):
                return f"{self.path}/{name}"
        raise MissingInputError(f"{self.path}: no {names[0]}; {FETCH}")


def _read(path: str, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """The columns of a file, and `row`: its number, from 1.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    try:
        with fsspec.open(path, "rb") as file:
            if path.endswith(".parquet"):
                table = pl.read_parquet(file, columns=list(columns))
            else:
                table = pl.read_csv(file, columns=list(columns), schema_overrides=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    return table.with_row_index("row", offset=1)


def _events(log: pl.DataFrame, path: str) -> pl.DataFrame:
    unknown = log.filter(~pl.col("eventType").is_in(KINDS))
    if len(unknown):
        row, kind = unknown.select("row", "eventType").row(0)
        raise InputError(f"{path}: row {row}, eventType: {kind!r} is none of {', '.join(KINDS)}")
    native = pl.col("userAgent").str
    surface = (
        pl.when(native.starts_with("Android - Native"))
        .then(ANDROID)
        .when(native.starts_with("iOS - Native"))
        .then(IOS)
        .when(pl.col("userAgent").is_not_null())
        .then(WEB)
    )
    first = log.sort("timestamp", maintain_order=True)
    return (
        first.group_by("personId", "contentId", "sessionId", maintain_order=True)
        .agg(
            pl.col("row").first(),
            user_id=_positive("personId").first(),
            post_id=_positive("contentId").first(),
            shown_at_ms=pl.col("timestamp").first() * 1000,
            surface=surface.first().cast(pl.Int16),
            click=pl.lit(True),
            **{name: (pl.col("eventType") == kind).any() for name, kind in ACTIONS.items()},
        )
        .drop("personId", "contentId", "sessionId")
    )


def _posts(articles: pl.DataFrame, log: pl.DataFrame) -> pl.DataFrame:
    """Articles by their first title; a download may say again that one was shared or removed."""
    viewed = log.filter(pl.col("eventType") == "VIEW")
    published = viewed.group_by("contentId").agg(created_at_ms=pl.col("timestamp").min() * 1000)
    once = articles.unique("contentId", keep="first", maintain_order=True)
    return once.join(published, on="contentId", how="left", maintain_order="left").select(
        "row", "created_at_ms", post_id=_positive("contentId"), text="title"
    )


def _users(log: pl.DataFrame) -> pl.DataFrame:
    """Viewers and the country of their first event: later ones would tell of the future."""
    first = log.sort("timestamp", maintain_order=True)
    each = first.group_by("personId", maintain_order=True).agg(
        pl.col("row").first(), pl.col("userCountry").first()
    )
    return each.select("row", user_id=_positive("personId"), country="userCountry")


def _positive(column: str) -> pl.Expr:
    """Without the sign bit; two ids that differ in it alone would be found as equal keys."""
    return (pl.col(column) & pl.lit(2**63 - 1, pl.Int64)).alias(column)

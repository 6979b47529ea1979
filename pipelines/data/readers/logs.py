"""A company's own tables, in the contract of `pipelines.schema`: Parquet or JSON lines.

Column names, types, units and null rules are those of `schema.TABLES`, as listed in the README;
`pipelines.data.tables` says what a file may leave out. What a feed has served is read by it too:
the events that `pipelines.data.outcomes` writes, and posts that were published meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from pipelines.data import check, tables
from pipelines.data.reader import Batch, Fragment, InputError, Reader
from pipelines.schema import DELETIONS, TABLES, Action, TableSchema, events_table, extend_actions

Places = str | list[str]  # each a file, a folder or a glob, on disk or at any fsspec URL


class Logs(Reader):
    """Where each table is. Rows of several places make one table; equal rows are one."""

    events: Places
    posts: Places | None = None  # null = post ids are not checked and authors are unknown
    users: Places | None = None  # null = user ids are not checked
    follows: Places | None = None
    # Posts taken away. They stay posts, and in events, histories and counts: that was so. Their
    # text and language are read as null, so that nobody learns from what its author took back.
    deletions: Places | None = None
    # Columns of events beyond schema.ACTIONS -> their weight.
    extra_actions: dict[str, float] = Field(default_factory=dict)

    @field_validator("extra_actions")
    @classmethod
    def _names_are_free(cls, extra: dict[str, float]) -> dict[str, float]:
        """An action needs a column of its own, and a bit of the mask."""
        if taken := sorted(extra.keys() & {c.name for c in TABLES["events"].columns}):
            raise ValueError(f"{taken[0]!r} is a column of events already")
        extend_actions([Action(name, weight=weight) for name, weight in extra.items()])
        return extra

    @property
    def actions(self) -> tuple[Action, ...]:
        """schema.ACTIONS and then `extra_actions`, in the order of the settings."""
        extra = [Action(name, weight=weight) for name, weight in self.extra_actions.items()]
        return extend_actions(extra)

    def fragments(self) -> list[Fragment]:
        """Files of each table by name; row groups of a file in their order."""
        names = ("users", "posts", "follows", "events")
        return [piece for name in names for piece in self._pieces(self._table(name))]

    def read(self, fragment: Fragment) -> Iterator[Batch]:
        """Stream a row group, or a file of JSON lines."""
        batches = tables.read(fragment, self._table(fragment.table))
        if fragment.table != "posts" or self.deletions is None:
            return batches
        return (replace(b, table=_without_text(b.table, self._deleted)) for b in batches)

    def _pieces(self, table: TableSchema) -> list[Fragment]:
        places = getattr(self, table.name)
        advice = f"reader.{table.name} must be a file, a folder or a glob of {table.name}"
        listed = [places] if isinstance(places, str) else places or []
        return tables.fragments(table, listed, advice)

    @cached_property
    def _deleted(self) -> NDArray[np.int64]:
        """Ids of the posts taken away. int64 [n]."""
        found = [np.empty(0, np.int64)]
        for fragment in self._pieces(DELETIONS):
            for batch in tables.read(fragment, DELETIONS):
                checked = check.rows(batch, fragment, DELETIONS, check.MAX_INT64, {})
                if checked.rejected:
                    raise InputError(str(checked.rejected[0]))
                found.append(checked.table["post_id"].to_numpy())
        return np.unique(np.concatenate(found))

    def _table(self, name: str) -> TableSchema:
        return events_table(self.actions) if name == "events" else TABLES[name]


def _without_text(posts: pa.Table, deleted: NDArray[np.int64]) -> pa.Table:
    """The same posts; what those of `deleted` say is null."""
    gone = pc.is_in(posts["post_id"].cast(pa.int64(), safe=False), pa.array(deleted))
    for at, name in enumerate(posts.column_names):
        if name in ("text", "language"):
            said = pc.if_else(gone, pa.scalar(None, pa.string()), posts[name].cast(pa.string()))
            posts = posts.set_column(at, name, said)
    return posts

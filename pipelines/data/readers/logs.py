"""A company's own tables, in the contract of `pipelines.schema`: Parquet or JSON lines.

Column names, types, units and null rules are those of `schema.TABLES`, as listed in the README.
Columns that may be null may also be left out; any other column is an error. JSON lines hold one
object a line; days (`log_date`) are written "2022-05-06".
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, field_validator

from pipelines.data import check, files, text
from pipelines.data.reader import Batch, Fragment, InputError, Reader
from pipelines.schema import TABLES, Action, TableSchema, events_table, extend_actions


class Logs(Reader):
    """Where each table is: a file, a folder or a glob, on disk or at any fsspec URL."""

    events: str
    posts: str | None = None  # null = post ids are not checked and authors are unknown
    users: str | None = None  # null = user ids are not checked
    follows: str | None = None
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
        found = []
        for name in ("users", "posts", "follows", "events"):
            url = getattr(self, name)
            advice = f"reader.{name} must be a file, a folder or a glob of {name}"
            for path in files.find_files(url, advice) if url else ():
                found += self._pieces(name, path)
        return found

    def read(self, fragment: Fragment) -> Iterator[Batch]:
        """Stream a row group, or a file of JSON lines."""
        if fragment.row_group is not None:
            return files.read_parquet(fragment)
        return text.read_json_lines(fragment, self._table(fragment.table).arrow)

    def _pieces(self, name: str, path: str) -> list[Fragment]:
        if path.endswith(files.PARQUET):
            pieces, schema = files.parquet_fragments(name, path)
            check.columns(schema, self._table(name), path)
            return pieces
        if path.removesuffix(".gz").endswith(files.JSON_LINES):
            return [text.text_fragment(name, path)]
        raise InputError(
            f"{path}: not a table; allowed: .parquet, .jsonl, .ndjson, .json (also .gz)"
        )

    def _table(self, name: str) -> TableSchema:
        return events_table(self.actions) if name == "events" else TABLES[name]

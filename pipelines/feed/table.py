"""Candidates: the posts of one request as immutable columns, one row a post."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Columns = Mapping[str, NDArray]


class Candidates:
    """Columns of equal length; `post_id` int64 is always there and names each row once.

    Nothing changes in place: every method returns a new table, and the arrays
    are read-only views, so components that run together cannot disturb each other.
    """

    __slots__ = ("_columns",)

    def __init__(self, columns: Columns) -> None:
        """Take `columns`, each [C, ...], without copying.

        Raises:
            ValueError: no int64 [C] `post_id`, or a column of another length.
        """
        ids = columns.get("post_id")
        if ids is None or ids.dtype != np.int64 or ids.ndim != 1:
            raise ValueError(f"candidates need post_id int64 [C], got {_shape(ids)}")
        self._columns = {name: _column(name, v, len(ids)) for name, v in columns.items()}

    @classmethod
    def _of(cls, columns: dict[str, NDArray]) -> Candidates:
        """Take columns that are known to be good and read-only: a request makes many tables."""
        table = cls.__new__(cls)
        table._columns = columns
        return table

    @classmethod
    def empty(cls) -> Candidates:
        """No posts, no columns but `post_id`."""
        return cls({"post_id": np.empty(0, np.int64)})

    @classmethod
    def merge(cls, tables: Sequence[Candidates]) -> Candidates:
        """One row for each post of any table, in order of first appearance.

        A row keeps what every table says of its post. Where a table does not
        have the post, its columns hold NaN (floats), 0 (integers) or False.

        Raises:
            ValueError: two tables have a column other than `post_id` in common,
                or one has a post twice.
        """
        if not tables:
            return cls.empty()
        ids, first, row = np.unique(
            np.concatenate([table.post_id for table in tables]),
            return_index=True,
            return_inverse=True,
        )
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))  # sorted id -> row of the result
        rows = np.split(place[row], np.cumsum([len(table) for table in tables])[:-1])
        merged: dict[str, NDArray] = {"post_id": ids[order]}
        for table, at in zip(tables, rows, strict=True):
            if np.bincount(at).max(initial=0) > 1:
                raise ValueError("a table to merge has a post twice")
            for name, values in table.items():
                if name == "post_id":
                    continue
                if name in merged:
                    raise ValueError(f"column {name!r} is in two of the tables to merge")
                missing = np.nan if values.dtype.kind == "f" else 0
                column = np.full((len(ids), *values.shape[1:]), missing, values.dtype)
                column[at] = values
                merged[name] = column
        return cls(merged)

    @property
    def post_id(self) -> NDArray[np.int64]:
        """The posts. int64 [C]."""
        return self._columns["post_id"]

    def __len__(self) -> int:
        return len(self.post_id)

    def __getitem__(self, name: str) -> NDArray:
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(f"no column {name!r} (have: {', '.join(sorted(self))})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def items(self) -> Iterator[tuple[str, NDArray]]:
        """Pairs of column name and read-only array, `post_id` among them."""
        return iter(self._columns.items())

    def with_columns(self, columns: Columns) -> Candidates:
        """Add `columns`, each [C, ...].

        Raises:
            ValueError: a column of another length, or one that is there already.
        """
        taken = sorted(self._columns.keys() & columns.keys())
        if taken:
            raise ValueError(f"columns {taken} are there already")
        added = {name: _column(name, values, len(self)) for name, values in columns.items()}
        return Candidates._of(self._columns | added)

    def take(self, rows: NDArray[np.integer] | slice) -> Candidates:
        """The given rows, in the order given."""
        at = (lambda v: v[rows]) if isinstance(rows, slice) else (lambda v: v.take(rows, axis=0))
        columns = {name: at(values) for name, values in self._columns.items()}
        for values in columns.values():
            values.flags.writeable = False
        return Candidates._of(columns)

    def filter(self, keep: NDArray[np.bool_]) -> Candidates:
        """The rows where `keep` bool [C] is true, in their order."""
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def row_of(self, post_id: int) -> int | None:
        """Row of one post, or None."""
        rows = np.flatnonzero(self.post_id == post_id)
        return int(rows[0]) if len(rows) else None

    def __repr__(self) -> str:
        return f"Candidates({len(self)} posts: {', '.join(self)})"

    def __reduce__(self) -> tuple[type[Candidates], tuple[dict[str, NDArray]]]:
        return Candidates, (dict(self._columns),)


def _column(name: str, values: ArrayLike, num_posts: int) -> NDArray:
    """A read-only view of `values`, one row a post."""
    view = np.asarray(values).view()
    if view.ndim == 0 or len(view) != num_posts:
        raise ValueError(f"column {name!r} is {_shape(view)}, expected {num_posts} rows")
    view.flags.writeable = False
    return view


def _shape(values: NDArray | None) -> str:
    return "nothing" if values is None else f"{values.dtype} {list(values.shape)}"

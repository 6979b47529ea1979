"""Lookups under the store of recent posts: ids to rows, and ids to a set of ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.stores.lookup import positions

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

_BUCKET_BITS = 16
_SPREAD = (
    -7046029254386353131
)  # an odd number near 2^64 / golden ratio: Knuth's multiplicative hash


def spread(lengths: NDArray) -> tuple[NDArray, NDArray]:
    """Ranges [L] laid end to end: the range of each of their elements, and its place in it."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


class RowIndex:
    """Rows by an id that several may share: most in sorted arrays, those added since in a dict."""

    def __init__(self, ids: Ids, rows: NDArray[np.int32]) -> None:
        """Take sorted `ids` and the row of each."""
        self._ids, self._rows = ids, rows
        self._late: dict[int, list[int]] = {}

    @classmethod
    def empty(cls) -> RowIndex:
        """No ids."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int32))

    def first(self, wanted: Ids) -> Ids:
        """The row last added of each of `wanted` [n], -1 = none. int64 [n]."""
        rows = np.full(len(wanted), -1)
        if len(self._ids):
            place, known = positions(self._ids, wanted)
            rows[known] = self._rows[place[known]]
        if self._late:
            late = self._late
            added = [late[one][-1] if one in late else -1 for one in wanted.tolist()]
            rows = np.maximum(rows, np.array(added, np.int64))  # later rows are higher
        return rows

    def all(self, wanted: Ids) -> tuple[NDArray, NDArray]:
        """Every row of each of `wanted` [n]: the place in `wanted` and the row, of each found."""
        begin = np.searchsorted(self._ids, wanted)
        which, slot = spread(np.searchsorted(self._ids, wanted, side="right") - begin)
        rows = self._rows[begin[which] + slot]
        if self._late:
            late = self._late
            found = [(i, row) for i, one in enumerate(wanted.tolist()) for row in late.get(one, ())]
            pairs = np.array(found, np.int64).reshape(-1, 2)
            which, rows = np.append(which, pairs[:, 0]), np.append(rows, pairs[:, 1])
        return which, rows

    def add(self, ids: Ids, rows: NDArray) -> None:
        """Add the row of each of `ids` [n]."""
        for one, row in zip(ids.tolist(), rows.tolist(), strict=True):
            self._late.setdefault(one, []).append(row)

    def moved(self, row_now: NDArray[np.int32], ids: Ids, late: NDArray) -> RowIndex:
        """The index of rows that have moved.

        Args:
            row_now: where each row went, -1 = it is gone.
            ids: of all rows.
            late: the rows that were added; what `add` was told is not looked at.
        """
        kept = row_now[self._rows] >= 0
        old_ids, old_rows = self._ids[kept], row_now[self._rows[kept]]
        late = late[row_now[late] >= 0]
        late = late[np.argsort(ids[late], kind="stable")]
        at = np.searchsorted(old_ids, ids[late])
        return RowIndex(np.insert(old_ids, at, ids[late]), np.insert(old_rows, at, row_now[late]))

    @property
    def nbytes(self) -> int:
        """Bytes of the sorted arrays."""
        return self._ids.nbytes + self._rows.nbytes


class IdSet:
    """A set of ids that says quickly which of many others are not in it."""

    def __init__(self, ids: Ids) -> None:
        """Take `ids` [n], in any order."""
        self._ids: Ids | None = None
        self._given = ids
        self._maybe = np.zeros(1 << _BUCKET_BITS, bool)
        self._maybe[_bucket(ids)] = True

    def has(self, ids: Ids) -> Mask:
        """Whether each of `ids` [n] is in the set."""
        found = self._maybe[_bucket(ids)]
        at = np.flatnonzero(found)
        if len(at):
            if self._ids is None:
                given = self._given
                self._ids = given if np.all(given[1:] >= given[:-1]) else np.sort(given)
            found[at] = positions(self._ids, ids[at])[1]
        return found


def _bucket(ids: Ids) -> NDArray[np.int64]:
    return (ids * _SPREAD) >> (64 - _BUCKET_BITS) & ((1 << _BUCKET_BITS) - 1)

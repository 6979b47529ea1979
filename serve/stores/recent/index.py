"""Lookups under the store of recent posts: ids to rows, and ids to their places in an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.encoding import expand
from serve.stores.lookup import positions

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

_NOT_THERE, _SEVERAL = -1, -2  # in a bucket
_BITS = 16  # of a bucket, unless ids are too few or too many for that
# An odd number near 2^64 / golden ratio, as a signed one: Knuth's multiplicative hash.
_SPREAD = -7046029254386353131


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
        which, slot = expand(np.searchsorted(self._ids, wanted, side="right") - begin)
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


class Places:
    """Where ids stand in an array, by a table of buckets: quick to make, quicker to ask.

    Only ids that share their bucket are searched for.
    """

    def __init__(self, ids: Ids) -> None:
        """Take `ids` [n], in any order."""
        self._ids = ids
        self._sorted: tuple[Ids, NDArray] | None = None  # ids, and where they stood before
        self._bits = max(min((32 * len(ids)).bit_length(), _BITS), (4 * len(ids)).bit_length())
        bucket, place = self._bucket(ids), np.arange(len(ids), dtype=np.int32)
        self._place = np.full(1 << self._bits, _NOT_THERE, np.int32)
        self._place[bucket] = place
        self._place[bucket[self._place[bucket] != place]] = _SEVERAL

    def of(self, ids: Ids) -> NDArray[np.int32]:
        """The place of each of `ids` [n], -1 = it is not there. Of equal ids, any place."""
        places = self._place[self._bucket(ids)]
        at = (places != _NOT_THERE).nonzero()[0]
        if len(at):
            ids, found = ids[at], places[at]
            several = (found == _SEVERAL).nonzero()[0]
            exact = np.where(self._ids[found] == ids, found, _NOT_THERE)
            if len(several):
                exact[several] = self._search(ids[several])
            places[at] = exact
        return places

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._place.nbytes

    def _bucket(self, ids: Ids) -> NDArray[np.int64]:
        return (ids * _SPREAD) >> (64 - self._bits) & ((1 << self._bits) - 1)

    def _search(self, ids: Ids) -> NDArray:
        if self._sorted is None:
            order = np.argsort(self._ids, kind="stable")
            self._sorted = self._ids[order], order
        place, known = positions(self._sorted[0], ids)
        return np.where(known, self._sorted[1][place], _NOT_THERE)

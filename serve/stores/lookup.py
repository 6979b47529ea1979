"""Sorted arrays of ids under the stores: sets, ids to rows, and ids to groups of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray


def column(table: pa.Table, name: str, null: float, dtype: type = np.float64) -> NDArray:
    """One column as an array of `dtype`, with `null` where the table has none. [N]."""
    values = pc.fill_null(table[name].cast(pa.from_numpy_dtype(dtype)), null)
    return values.combine_chunks().to_numpy(zero_copy_only=False)


def table_of(path: str | Path, schema: pa.Schema) -> pa.Table:
    """A file of rows: Parquet, or JSON lines of `schema` if its name ends in .jsonl.

    Raises:
        OSError, pa.ArrowException: it cannot be read.
    """
    if str(path).endswith(".jsonl"):
        options = pa.json.ParseOptions(explicit_schema=schema)
        return pa.json.read_json(path, parse_options=options)
    return pq.read_table(path)


def positions(
    ids: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each of `wanted` [n] stands in sorted `ids`, and whether it is there at all.

    The position of an id that is not there is some valid position.
    """
    place = np.searchsorted(ids, wanted)
    place[place == len(ids)] = 0
    known = ids[place] == wanted if len(ids) else np.zeros(len(wanted), bool)
    return place, known


def sorted_ids(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different ones among `ids` [n], sorted; numpy's unique takes 50 times as long."""
    ids = np.sort(ids)
    return ids[np.append(True, ids[1:] != ids[:-1])[: len(ids)]]


def union(ids: NDArray[np.int64], more: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted `ids`, none twice, and `more` [n] in any order, as one such array."""
    more = sorted_ids(more)
    new = more[~positions(ids, more)[1]]
    return np.insert(ids, np.searchsorted(ids, new), new) if len(new) else ids


def difference(ids: NDArray[np.int64], gone: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted `ids`, none twice, without those of `gone` [n]."""
    place, known = positions(ids, gone)
    return np.delete(ids, place[known]) if known.any() else ids


class Groups:
    """Values grouped by an id."""

    def __init__(self, ids: NDArray[np.int64], values: NDArray) -> None:
        """Group `values` [N] by `ids` [N]; inside a group they keep their order."""
        order = np.argsort(ids, kind="stable")
        self._values = values[order]
        self._ids, self._starts, self._lengths = np.unique(
            ids[order], return_index=True, return_counts=True
        )

    def of(self, one_id: int) -> NDArray:
        """All values of one id."""
        place, known = positions(self._ids, np.array([one_id]))
        start = self._starts[place[0]] if known[0] else 0
        return self._values[start : start + (self._lengths[place[0]] if known[0] else 0)]

    def pairs(self) -> tuple[NDArray[np.int64], NDArray]:
        """The ids of all values, and the values, as they were given but grouped. [N], [N]."""
        return np.repeat(self._ids, self._lengths), self._values

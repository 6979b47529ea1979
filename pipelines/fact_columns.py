"""Columns of tables as the arrays of `pipelines.facts`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.encoding import expand

Ids = NDArray[np.int64]


def find(ids: Ids, known: Ids) -> Ids:
    """Place of each id in the sorted `known`, -1 = not in it. Shape of `ids`."""
    if not len(known):
        return np.full(ids.shape, -1)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, at, -1)


def attributes(users: pa.Table) -> Ids:
    """Profile facts as numbers; amounts count as facts by their power of two."""
    facts = padded_lists(users["attributes"], None, lambda name: zlib.crc32(name.encode()) + 1)
    columns = [facts]
    for name in ("num_followers", "num_following", "language", "country"):
        value = users[name].combine_chunks()
        if name.startswith("num_"):
            value = pc.cast(pc.floor(pc.log2(pc.add(pc.cast(value, pa.float64()), 1))), pa.int64())
        fact = [f"{name}={v.as_py()}" for v in pc.unique(value)]
        number = np.array([zlib.crc32(text.encode()) + 1 for text in fact], np.int64)
        code = value.dictionary_encode(null_encoding="mask").indices
        known = pc.fill_null(code, -1).to_numpy(zero_copy_only=False)
        columns.append(np.append(np.where(known >= 0, _take(number, known), 0), 0)[:, None])
    return np.concatenate(columns, axis=1)


def _take(values: Ids, at: Ids) -> Ids:
    return values[at] if len(values) else np.zeros(len(at), np.int64)


def padded_lists(
    column: pa.ChunkedArray, width: int | None, number: Callable[[str], int] | None = None
) -> Ids:
    """Lists of at most `width` (None = the longest) as [n + 1, width], zeros at the end."""
    lists = column.combine_chunks()
    length = pc.fill_null(lists.value_lengths(), 0).to_numpy(zero_copy_only=False)
    values = lists.flatten()
    if number is not None:
        names = values.dictionary_encode()
        numbers = np.array([number(name) for name in names.dictionary.to_pylist()], np.int64)
        flat = _take(numbers, names.indices.to_numpy(zero_copy_only=False))
    else:
        flat = values.to_numpy(zero_copy_only=False)
    width = int(length.max(initial=0)) if width is None else width
    row, slot = expand(length)
    out = np.zeros((len(length) + 1, width), np.int64)
    kept = slot < width
    out[row[kept], slot[kept]] = flat[kept]
    return out


def aligned(folder: Path, name: str, ids_name: str, post_id: Ids) -> NDArray:
    """Rows of an array, whose posts another names, in the order of `post_id`; zeros if it has none.

    Raises:
        ValueError: there are more or fewer rows than ids.
    """
    if not (folder / name).exists():
        return np.zeros((len(post_id) + 1, 0), np.int16)
    ids, values = np.load(folder / ids_name), np.load(folder / name, mmap_mode="r")
    if len(ids) != len(values):
        raise ValueError(
            f"{folder}: {name} has {len(values)} rows, {ids_name} {len(ids)}; make both anew"
        )
    place = np.append(find(post_id, ids), -1)
    return np.where(place[:, None] >= 0, values[place], 0)


def unknown(folder: Path, name: str, ids_name: str, post_id: Ids) -> NDArray:
    """As wide as `aligned`, and zeros for every post; takes no memory."""
    none = aligned(folder, name, ids_name, post_id[:0])
    kind = np.float32 if none.dtype.kind == "f" else np.int64
    return np.broadcast_to(none[-1:].astype(kind), (len(post_id) + 1, none.shape[1]))


def filled(column: pa.ChunkedArray, value: float) -> NDArray:
    """A column with `value` where there is none. [n]."""
    return pc.fill_null(column, pa.scalar(value, column.type)).to_numpy()

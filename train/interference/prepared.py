"""Ratings as prepared data of the product, for its own learners.

A liked post is a click, and a favorite with five stars; posts and viewers count from 1. What is
counted of a post is what may be learned from, as of an instant after all of it.

Axes: n ratings, V viewers, H liked posts of a history, C candidates, P posts, E width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.facts import CONTENT, CONTENT_IDS, RATES
from pipelines.features import History, history_rows
from pipelines.schema import ACTION_NAMES, EXAMPLES, POSTS, USERS, TableSchema, action_weights
from pipelines.whole import save_json
from train.interference.ratings import LIKED, Floats, Ids, Ratings
from train.interference.split import Split

CLICK = ACTION_NAMES.index("click")
_FAVORITE = ACTION_NAMES.index("favorite")
_FIVE = 5.0
_AT_MS = 10_000


def write(
    folder: Path, ratings: Ratings, train: NDArray[np.bool_], vectors: NDArray | None = None
) -> None:
    """Write what may be learned from.

    Args:
        folder: is there, empty.
        ratings: of the set.
        train: rows that may be learned from. [n].
        vectors: take the place of those of posts' texts. [P, E], None = no post has one.
    """
    ids = np.arange(1, ratings.num_items + 1)
    weights = action_weights().tolist()
    save_json(folder / "manifest.json", {"actions": ACTION_NAMES, "action_weights": weights})
    pq.write_table(_blank(POSTS, "post_id", ids), folder / "posts.parquet")
    pq.write_table(_blank(USERS, "user_id", ids[:0]), folder / "users.parquet")
    (folder / RATES).mkdir()
    (folder / "sequences").mkdir()
    _count(folder / RATES / "post.parquet", ids, ratings.item + 1, ratings.value, train)
    everything = np.ones(len(train), np.int64)
    _count(folder / RATES / "all.parquet", ids[:1], everything, ratings.value, train)
    rows, start = ratings.rows_of(train & (ratings.value >= LIKED))
    viewer = np.flatnonzero(np.diff(start))
    past = [rows[start[v] : start[v + 1]] for v in viewer]
    table = _histories(
        viewer, [ratings.item[own] for own in past], [ratings.value[own] for own in past]
    )
    pq.write_table(table, folder / "sequences" / "all.parquet")
    if vectors is not None:
        np.save(folder / CONTENT_IDS, ids)
        np.save(folder / CONTENT, vectors.astype(np.float32))


def examples(split: Split) -> pa.Table:
    """Candidates as a visit of each viewer, of which only clicks were observed. [V] rows."""
    kept = [slice(length) for length in split.lengths]
    table = _histories(
        split.viewer,
        [items[own] for items, own in zip(split.history, kept, strict=True)],
        [size[own] + LIKED - 1 for size, own in zip(split.amplitude, kept, strict=True)],
    )
    shape = split.candidates.shape
    columns = {
        "post_id": split.candidates + 1,
        "author_id": np.zeros(shape),
        "surface": np.zeros(shape),
        "shown_at_ms": np.full(shape, _AT_MS),
        "did": split.hit << CLICK,
        "observed": np.full(shape, 1 << CLICK),
        "dwell_s": np.full(shape, np.nan),
    }
    for name, values in columns.items():
        dtype = EXAMPLES.field(name).type
        offsets = pa.array(np.arange(len(values) + 1) * shape[1], pa.int32())
        flat = pa.array(values.reshape(-1)).cast(dtype.value_type, safe=False)
        table = table.append_column(name, pa.ListArray.from_arrays(offsets, flat))
    return table


def _histories(viewer: Ids, items: list[Ids], values: list[Floats]) -> pa.Table:
    """Liked posts of each viewer, oldest first, and their stars."""
    histories = []
    for who, posts, stars in zip(viewer, items, values, strict=True):
        zeros = np.zeros(len(posts), np.int64)
        did = (1 << CLICK) | np.where(stars >= _FIVE, 1 << _FAVORITE, 0)
        unknown = np.full(len(posts), np.nan, np.float32)
        histories.append(
            History(int(who) + 1, posts + 1, zeros, did, zeros.astype(np.int16), unknown, zeros)
        )
    return history_rows(histories, [_AT_MS] * len(histories))


def _count(file: Path, ids: Ids, of: Ids, value: Floats, train: NDArray[np.bool_]) -> None:
    """How often each of `ids` was rated, liked, and given five stars."""
    counts = {
        name: np.bincount(of[train & chosen], minlength=ids[-1] + 1)[ids]
        for name, chosen in (
            ("shown", value > 0),
            (ACTION_NAMES[_FAVORITE], value >= _FIVE),
            (ACTION_NAMES[CLICK], value >= LIKED),
        )
    }
    pq.write_table(pa.table({"id": ids, "from_ms": np.zeros_like(ids), **counts}), file)


def _blank(schema: TableSchema, key: str, ids: Ids) -> pa.Table:
    """A table of which only the key is known."""
    return pa.table(
        {
            column.name: ids if column.name == key else pa.nulls(len(ids), column.dtype)
            for column in schema.columns
        }
    )

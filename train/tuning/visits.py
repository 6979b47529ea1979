"""Logged visits as requests: who asked when, what they had done, what was shown and came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.stages import FeedQuery
from train.rows import read_examples

Ids = NDArray[np.int64]
_MOST = 0.5  # share of a split that must be later than what came before
_HISTORY = ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms")


@dataclass(frozen=True)
class Visit:
    """One visit of the log.

    Attributes:
        query: as the feed would be asked then.
        history: what the viewer had done by then; None = nothing.
        post_id: posts shown, no post twice. int64 [n].
        did, observed: of each post, as in schema.EXAMPLES; of one shown twice, both times'.
        dwell_s: likewise the longest; NaN = not measured. float32 [n].
    """

    query: FeedQuery
    history: History | None
    post_id: Ids
    did: Ids
    observed: Ids
    dwell_s: NDArray[np.float32]


def visits(data: Path, split: str, num: int, page: int, after: Sequence[Visit] = ()) -> list[Visit]:
    """Visits of a split, spread evenly over its time, in its order.

    Days of a log may overlap by hours, where it files rows by days of its own.

    Args:
        data: prepared.
        split: of it.
        num: at most; fewer where the split has fewer.
        page: posts that each asks for.
        after: visits that all must be later than; the split's others are left out.

    Raises:
        FileNotFoundError: there is no such split.
        ValueError: it is empty, or most of it is not later than `after`.
    """
    examples = read_examples(data, split)
    if not len(examples):
        raise ValueError(f"{data}: no visits in the split {split}")
    at_ms = examples["at_ms"].to_numpy()
    last = max((visit.query.now_ms for visit in after), default=-1)
    later = np.flatnonzero(at_ms > last)
    if len(later) < _MOST * len(examples):
        raise ValueError(
            f"{data}: of {len(examples)} visits to test on only {len(later)} are later than all "
            "those tuned on: tuning needs a split in time, without split.leave_last_out"
        )
    order = later[np.argsort(at_ms[later], kind="stable")]
    chosen = order[np.linspace(0, len(order) - 1, min(num, len(order))).round().astype(int)]
    return [_visit(row, split, page) for row in _rows(examples.take(chosen))]


def _rows(examples: pa.Table) -> list[dict[str, NDArray]]:
    """Rows of EXAMPLES; lists as arrays."""
    columns = {
        name: examples[name].to_numpy(zero_copy_only=False) for name in examples.column_names
    }
    return [{name: column[at] for name, column in columns.items()} for at in range(len(examples))]


def _visit(row: dict[str, NDArray], split: str, page: int) -> Visit:
    user_id, at_ms = int(row["user_id"]), int(row["at_ms"])
    history = None
    if len(row["history_post_id"]):
        history = History(user_id, **{name: row[f"history_{name}"] for name in _HISTORY})
    post_id, first, which = np.unique(row["post_id"], return_index=True, return_inverse=True)
    did, observed = (np.zeros(len(post_id), np.int64) for _ in range(2))
    np.bitwise_or.at(did, which, row["did"])
    np.bitwise_or.at(observed, which, row["observed"])
    dwell_s = np.full(len(post_id), np.nan, np.float32)
    np.fmax.at(dwell_s, which, row["dwell_s"])
    order = np.argsort(first)  # as they were shown
    query = FeedQuery(
        user_id=user_id,
        limit=page,
        now_ms=at_ms,
        request_id=f"{split}-{user_id}-{at_ms}",
        surface=int(row["surface"][0]),
    )
    return Visit(query, history, post_id[order], did[order], observed[order], dwell_s[order])

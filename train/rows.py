"""Examples, flattened: one row per post shown, as the baselines and the evaluation want it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.encoding import expand
from pipelines.schema import EXAMPLES


@dataclass(frozen=True)
class Rows:
    """Posts shown, example by example and from the top of each; all arrays are [n].

    Every kept event of a data set is a candidate of exactly one example, so the rows of
    all splits together are its checked event log.

    Attributes:
        example: int64, row of the table it came from.
        user_id, post_id, author_id: int64; author 0 = unknown.
        surface: int16, 0 = unknown.
        shown_at_ms: int64.
        did, observed: int64 masks over the actions.
        dwell_s: float32, NaN = not measured.
    """

    example: NDArray[np.int64]
    user_id: NDArray[np.int64]
    post_id: NDArray[np.int64]
    author_id: NDArray[np.int64]
    surface: NDArray[np.int16]
    shown_at_ms: NDArray[np.int64]
    did: NDArray[np.int64]
    observed: NDArray[np.int64]
    dwell_s: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.user_id)

    def label(self, action: int) -> NDArray[np.bool_]:
        """Whether the action with this index was done; False also where not observed."""
        return (self.did >> action) & 1 == 1

    def seen(self, action: int) -> NDArray[np.bool_]:
        """Whether this log could have told that the action with this index was done."""
        return (self.observed >> action) & 1 == 1

    def take(self, rows: NDArray) -> Rows:
        """The rows at these indices, or where this mask is true."""
        return Rows(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def read_examples(data: str | Path, *splits: str) -> pa.Table:
    """Examples of the named splits of a prepared data set, one after the other.

    Raises:
        FileNotFoundError: there is no such split; the text names the folder.
    """
    folders = [Path(data) / "examples" / f"split={split}" for split in splits]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no examples here; run `python -m pipelines.data`")
    tables = [pq.read_table(f, schema=EXAMPLES, partitioning=None) for f in folders]
    return pa.concat_tables(tables)


def flatten(examples: pa.Table) -> Rows:
    """One row per candidate of `examples`, in their order."""
    length = _lengths(examples["post_id"])
    names = ("post_id", "author_id", "surface", "shown_at_ms", "did", "observed", "dwell_s")
    return Rows(
        example=np.repeat(np.arange(len(length)), length),
        user_id=np.repeat(examples["user_id"].to_numpy(), length),
        **{name: _values(examples[name]) for name in names},
    )


@dataclass(frozen=True)
class Past:
    """All that viewers were shown, also before the log: by viewer, then oldest first.

    Attributes:
        user_id, post_id: int64 [n].
        at_ms: int64 [n], 0 = before the log, where only the order is known.
        did: int64 [n] masks over the actions.
    """

    user_id: NDArray[np.int64]
    post_id: NDArray[np.int64]
    at_ms: NDArray[np.int64]
    did: NDArray[np.int64]

    @classmethod
    def of(cls, examples: pa.Table) -> Past:
        """The history of each viewer's first example, then the candidates of all."""
        user, at_ms = examples["user_id"].to_numpy(), examples["at_ms"].to_numpy()
        order = np.lexsort((at_ms, user))
        first = examples.take(order[np.diff(user[order], prepend=-1) != 0])
        rows = flatten(examples)
        before = np.repeat(first["user_id"].to_numpy(), _lengths(first["history_post_id"]))
        columns = [
            (before, rows.user_id),
            (_values(first["history_post_id"]), rows.post_id),
            (np.zeros_like(before), rows.shown_at_ms),
            (_values(first["history_did"]), rows.did),
        ]
        joined = [np.concatenate(pair) for pair in columns]
        order = np.lexsort((joined[2], joined[0]))  # stable: what has no time keeps its order
        return cls(*(column[order] for column in joined))

    def until(self, at_ms: int) -> Past:
        """What was shown strictly earlier than this."""
        kept = self.at_ms < at_ms
        return Past(**{f.name: getattr(self, f.name)[kept] for f in fields(self)})

    def before(
        self, user_id: NDArray[np.int64], at_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which rows each viewer had been shown strictly earlier: [start, end), int64 [Q] each."""
        start = np.searchsorted(self.user_id, user_id)
        low, high = start.copy(), np.searchsorted(self.user_id, user_id, side="right")
        while (open_ := low < high).any():  # bisect each viewer's rows by time, all at once
            middle = (low + high) // 2
            older = open_ & (self.at_ms[np.minimum(middle, len(self.at_ms) - 1)] < at_ms)
            low = np.where(older, middle + 1, low)
            high = np.where(open_ & ~older, middle, high)
        return start, low


def ranges(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Every index of each range [start, end), and which range it is of. int64 [n] each."""
    which, slot = expand(end - start)
    return start[which] + slot, which


def _values(column: pa.ChunkedArray) -> NDArray:
    """What the lists of a column hold, one after the other."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)


def _lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Length of each list of a column."""
    return column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)

"""One viewer's events in time order become visits, histories and profiles; no loop over rows.

Axes: n entries of the log, E examples. A window is a run of entries [start, start + length).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from configs import Config
from pipelines.schema import EXAMPLES, SPLITS

BEFORE_LOG = -1  # split of an entry that is older than the log: history only
CHUNK = 4096  # examples of one row group: bounds memory while they are built
PROFILES = pa.schema([f for f in EXAMPLES if f.name == "user_id" or f.name.startswith("history_")])


_Column = NDArray | tuple[NDArray, NDArray[np.int32]]  # values, or values and offsets of lists


class ExampleSettings(Config):
    """How the log of one viewer is cut into examples."""

    session_gap_s: float = Field(default=1800, ge=0)  # a longer pause begins a new visit
    max_candidates: PositiveInt = 16  # a longer visit is cut into pieces of this many
    history_len: int = Field(default=64, ge=0)  # newest events kept before a visit
    profile_len: PositiveInt = 200  # newest events kept at the end of the log


@dataclass(frozen=True)
class Log:
    """Entries sorted by (user_id, sort_ms), each column [n].

    Attributes:
        user_id, post_id, author_id: int64, author 0 = unknown.
        sort_ms: when it was shown; of an entry from before the log, a bound. int64.
        split: int8 index into SPLITS, or BEFORE_LOG.
        did, observed: int64 action masks.
        surface: int16, 0 = unknown.
        dwell_s: float32, NaN = not measured.
    """

    user_id: NDArray[np.int64]
    sort_ms: NDArray[np.int64]
    split: NDArray[np.int8]
    post_id: NDArray[np.int64]
    author_id: NDArray[np.int64]
    did: NDArray[np.int64]
    observed: NDArray[np.int64]
    surface: NDArray[np.int16]
    dwell_s: NDArray[np.float32]

    def take(self, kept: NDArray[np.bool_]) -> Log:
        """The entries where the mask is true."""
        return Log(**{f.name: getattr(self, f.name)[kept] for f in fields(self)})

    @property
    def at_ms(self) -> NDArray[np.int64]:
        """When each was shown; 0 = unknown. int64 [n]."""
        return np.where(self.split == BEFORE_LOG, 0, self.sort_ms)


def examples(log: Log, split: str, settings: ExampleSettings) -> Iterator[pa.Table]:
    """Examples of one split in the order of the log, CHUNK rows at a time.

    An example is consecutive impressions of one viewer in that split with no pause longer
    than `session_gap_s`, at most `max_candidates`. Its history is the viewer's newest
    `history_len` entries of any split strictly older than the first of them.

    Yields:
        Tables with the columns of schema.EXAMPLES; none when the split is empty.
    """
    entry = np.flatnonzero(log.split == SPLITS.index(split))
    start, length = visits(log.user_id[entry], log.sort_ms[entry], settings)
    first = entry[start]
    end = first_of_instant(log)[first]
    begin = np.maximum(first_of_user(log)[first], end - settings.history_len)
    at_ms = log.at_ms
    for low in range(0, len(start), CHUNK):
        chunk = slice(low, low + CHUNK)
        past, past_offsets = ragged(begin[chunk], (end - begin)[chunk])
        seen, seen_offsets = ragged(start[chunk], length[chunk])
        shown = entry[seen]
        columns: dict[str, _Column] = {
            "user_id": log.user_id[first[chunk]],
            "at_ms": log.sort_ms[first[chunk]],
            **_history(log, at_ms, past, past_offsets),
            "post_id": (log.post_id[shown], seen_offsets),
            "author_id": (log.author_id[shown], seen_offsets),
            "surface": (log.surface[shown], seen_offsets),
            "shown_at_ms": (log.sort_ms[shown], seen_offsets),
            "did": (log.did[shown], seen_offsets),
            "observed": (log.observed[shown], seen_offsets),
            "dwell_s": (log.dwell_s[shown], seen_offsets),
        }
        yield _table(columns, EXAMPLES)


def profiles(log: Log, settings: ExampleSettings) -> Iterator[pa.Table]:
    """Each viewer's newest `profile_len` entries, one row a viewer, CHUNK rows at a time."""
    first = np.flatnonzero(_changes(log.user_id))
    end = np.append(first[1:], len(log.user_id))
    begin = np.maximum(first, end - settings.profile_len)
    at_ms = log.at_ms
    for low in range(0, len(first), CHUNK):
        chunk = slice(low, low + CHUNK)
        past, offsets = ragged(begin[chunk], (end - begin)[chunk])
        columns: dict[str, _Column] = {
            "user_id": log.user_id[first[chunk]],
            **_history(log, at_ms, past, offsets),
        }
        yield _table(columns, PROFILES)


def visits(
    user_id: NDArray[np.int64], at_ms: NDArray[np.int64], settings: ExampleSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut sorted impressions into pieces of visits. int64 [n], [n] -> start, length [E]."""
    num_rows = len(user_id)
    pause = np.diff(at_ms, prepend=at_ms[:1]) > settings.session_gap_s * 1000
    opens = np.flatnonzero(_changes(user_id) | pause)
    sizes = np.diff(opens, append=num_rows)
    position = np.arange(num_rows) - np.repeat(opens, sizes)
    start = np.flatnonzero(position % settings.max_candidates == 0)
    return start, np.diff(start, append=num_rows)


def first_of_user(log: Log) -> NDArray[np.int64]:
    """For each entry, the oldest entry of the same viewer. int64 [n]."""
    return _first_of_run(_changes(log.user_id))


def first_of_instant(log: Log) -> NDArray[np.int64]:
    """For each entry, the first of the same viewer at the same instant. int64 [n]."""
    return _first_of_run(_changes(log.user_id) | _changes(log.sort_ms))


def ragged(
    start: NDArray[np.int64], length: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Entries of windows end to end, and the offset of each window. [E], [E] -> [*], [E + 1]."""
    offsets = np.concatenate([[0], np.cumsum(length)])
    entries = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], length)
    return entries, offsets.astype(np.int32)


def _changes(values: NDArray) -> NDArray[np.bool_]:
    """Whether each value differs from the one before; true for the first. bool [n]."""
    changed = np.ones(len(values), bool)
    changed[1:] = values[1:] != values[:-1]
    return changed


def _first_of_run(opens: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.maximum.accumulate(np.where(opens, np.arange(len(opens)), 0))


def _history(
    log: Log, at_ms: NDArray[np.int64], past: NDArray[np.int64], offsets: NDArray[np.int32]
) -> dict[str, _Column]:
    return {
        "history_post_id": (log.post_id[past], offsets),
        "history_author_id": (log.author_id[past], offsets),
        "history_did": (log.did[past], offsets),
        "history_surface": (log.surface[past], offsets),
        "history_dwell_s": (log.dwell_s[past], offsets),
        "history_at_ms": (at_ms[past], offsets),
    }


def _table(columns: Mapping[str, _Column], schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        column = columns[field.name]
        if isinstance(column, tuple):
            values, offsets = column
            inner = pa.array(values, field.type.value_type)
            arrays.append(pa.ListArray.from_arrays(pa.array(offsets), inner))
        else:
            arrays.append(pa.array(column, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)

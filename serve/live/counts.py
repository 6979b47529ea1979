"""How often posts were liked, answered, repeated and quoted since the bundle was made."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.schema import COUNTED
from serve.stores.lookup import difference, positions, sorted_ids

Ids = NDArray[np.int64]

_ACTIONS = tuple(COUNTED.values())
SCHEMA = pa.schema(
    [
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),  # of its action in COUNTED
        pa.field("at_ms", pa.int64(), nullable=False),
    ]
)
_MAX_PARTS, _MAX_FRESH = 256, 50_000  # of what came lately: more is sorted into the rest
_Events = tuple[Ids, Ids, Ids]  # posts, places of actions, ms since 1970; [n] each


class LiveCounts:
    """Engagements by post and action of `COUNTED`, K, since an instant that each bundle sets.

    Any thread may read at any time; writes wait for each other. An event that is told twice is
    counted twice: the follower of the journal leaves those out. What a bundle counts is kept, too,
    should an older bundle follow. 24 bytes each; of more than `max_kept` the first to have
    happened go, a twentieth at a time.

    Attributes:
        since_ms: what was done by then is not counted: it is in the bundle's counts.
        complete_ms: what was done by then may be forgotten.
        num_let_go: engagements that were, though no bundle counted them.
    """

    def __init__(self, max_kept: int = 2_000_000) -> None:
        """Nothing was done yet."""
        self._max_kept = max_kept
        none = np.empty(0, np.int64)
        self._sorted: _Events = (none, none, none)  # by time
        self._fresh: list[_Events] = []  # what came lately
        self._num_fresh = 0
        self.since_ms, self.complete_ms = 0, 0
        self.num_let_go = 0
        # What reads look at: swapped as a whole. Posts, sorted, and counts [n, K].
        self._state: tuple[Ids, Ids] = (none, none.reshape(0, len(_ACTIONS)))
        self._newest_ms = 0
        self._writing = threading.Lock()

    def __len__(self) -> int:
        return len(self._sorted[0]) + self._num_fresh

    def add(self, engagements: pa.Table) -> None:
        """Count rows of schema.ENGAGEMENTS."""
        action = engagements["action"].to_numpy(zero_copy_only=False)
        place = np.full(len(action), -1)
        for at, name in enumerate(_ACTIONS):
            place[action == name] = at
        post_id, at_ms = (engagements[name].to_numpy() for name in ("post_id", "at_ms"))
        with self._writing:
            ours = (place >= 0) & (at_ms > self.complete_ms)
            if not ours.any():
                return
            post_id, place, at_ms = post_id[ours], place[ours], at_ms[ours]
            self._fresh.append((post_id, place, at_ms))
            self._num_fresh += len(post_id)
            if len(self._fresh) > _MAX_PARTS or self._num_fresh > _MAX_FRESH:
                self._sort()
            counted = at_ms > self.since_ms
            self._newest_ms = max(self._newest_ms, int(at_ms.max()))
            self._state = _merged(*self._state, post_id[counted], place[counted])
            if len(self) > self._max_kept:
                self._let_go()

    def count_since(self, since_ms: int) -> bool:
        """Count what was done after that; whether all of it is known."""
        with self._writing:
            self.since_ms = since_ms
            self._count()
            return self.complete_ms <= since_ms

    def table(self) -> pa.Table:
        """All that is kept: SCHEMA."""
        with self._writing:
            parts = [self._sorted, *self._fresh]
        columns = map(np.concatenate, zip(*parts, strict=True))
        return pa.Table.from_arrays([pa.array(values) for values in columns], schema=SCHEMA)

    def restore(self, table: pa.Table, complete_ms: int) -> None:
        """Keep what `table` holds, and that alone: all that was done after that instant."""
        with self._writing:
            post_id, place, at_ms = (table[name].to_numpy() for name in SCHEMA.names)
            self._fresh, self._num_fresh = [], 0
            self._sorted = (post_id, place, at_ms)
            self.complete_ms = complete_ms
            self._count()

    def of(self, post_id: Ids, until_ms: int | None = None) -> Ids:
        """Counts of each post [C] by action, of what was done until then, None = all. [C, K]."""
        found = _of(*self._state, post_id)
        if until_ms is not None and until_ms < self._newest_ms:
            found = found - _of(*_counted(*self._later(max(until_ms, self.since_ms))), post_id)
        return found

    def _later(self, than_ms: int) -> tuple[Ids, Ids]:
        """Posts and actions of what was done after that; takes time in proportion to it alone."""
        with self._writing:
            first = np.searchsorted(self._sorted[2], than_ms, side="right")
            parts = [(self._sorted[0][first:], self._sorted[1][first:])]
            parts += [(p[at > than_ms], place[at > than_ms]) for p, place, at in self._fresh]
        post_id, place = map(np.concatenate, zip(*parts, strict=True))
        return post_id, place

    def _sort(self) -> None:
        parts = [self._sorted, *self._fresh]
        post_id, place, at_ms = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(at_ms, kind="stable")
        self._sorted = (post_id[order], place[order], at_ms[order])
        self._fresh, self._num_fresh = [], 0

    def _count(self) -> None:
        """Count all that is kept."""
        self._sort()
        post_id, place, at_ms = self._sorted
        first = np.searchsorted(at_ms, self.since_ms, side="right")
        self._newest_ms = int(at_ms[-1]) if len(at_ms) else 0
        self._state = _counted(post_id[first:], place[first:])

    def _let_go(self) -> None:
        self._sort()
        num = len(self) - self._max_kept + self._max_kept // 20
        self.complete_ms = int(self._sorted[2][num - 1])
        num = int(np.searchsorted(self._sorted[2], self.complete_ms, side="right"))
        self.num_let_go += int((self._sorted[2][:num] > self.since_ms).sum())
        post_id, place, at_ms = (values[num:].copy() for values in self._sorted)
        self._sorted = (post_id, place, at_ms)
        self._count()


def _of(ids: Ids, counts: Ids, post_id: Ids) -> Ids:
    """Rows of `counts` for each post [C], zeros where it has none. [C, K]."""
    if not len(ids):
        return np.zeros((len(post_id), counts.shape[1]), np.int64)
    place, known = positions(ids, post_id)
    return np.where(known[:, None], counts[place], 0)


def _counted(post_id: Ids, place: Ids) -> tuple[Ids, Ids]:
    none = np.empty(0, np.int64)
    return _merged(none, none.reshape(0, len(_ACTIONS)), post_id, place)


def _merged(ids: Ids, counts: Ids, post_id: Ids, place: Ids) -> tuple[Ids, Ids]:
    """Counts with one more for each of the events [n]."""
    new = difference(sorted_ids(post_id), ids)
    at = np.searchsorted(ids, new)
    merged = np.insert(ids, at, new) if len(new) else ids
    total = np.insert(counts, at, 0, axis=0) if len(new) else counts.copy()
    np.add.at(total, (np.searchsorted(merged, post_id), place), 1)
    return merged, total

"""How often posts were liked, answered, repeated and quoted since the bundle was made."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.stores.lookup import positions

Ids = NDArray[np.int64]

# What is counted of posts, and the action that the column counts.
COUNTED = {
    "num_likes": "favorite",
    "num_replies": "reply",
    "num_reposts": "repost",
    "num_quotes": "quote",
}
_ACTIONS = tuple(COUNTED.values())
SCHEMA = pa.schema(
    [
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),  # of its action in COUNTED
        pa.field("at_ms", pa.int64(), nullable=False),
    ]
)
_MAX_PARTS, _MAX_FRESH = 256, 50_000  # of what came lately: more is sorted into the rest


class LiveCounts:
    """Engagements by post and action of `COUNTED`, K, since an instant that a bundle moves on.

    Any thread may read at any time; writes wait for each other. An event that is told twice is
    counted twice: the follower of the journal leaves those out. Each takes 24 bytes until the next
    bundle.

    Attributes:
        since_ms: what was done by then is not counted: it is in the bundle's counts.
    """

    def __init__(self) -> None:
        """Nothing was done yet."""
        none = np.empty(0, np.int64)
        # Post, place of the action, ms since 1970: by time, and then what came lately.
        self._sorted = (none, none, none)
        self._fresh: list[tuple[Ids, Ids, Ids]] = []
        self._num_fresh = 0
        self.since_ms = 0
        # What reads look at: swapped as a whole. Posts, sorted, and counts [n, K].
        self._state: tuple[Ids, Ids] = (none, none.reshape(0, len(_ACTIONS)))
        self._newest_ms = 0
        self._writing = threading.Lock()

    def add(self, engagements: pa.Table) -> None:
        """Count rows of schema.ENGAGEMENTS."""
        action = engagements["action"].to_numpy(zero_copy_only=False)
        place = np.full(len(action), -1)
        for at, name in enumerate(_ACTIONS):
            place[action == name] = at
        counted = (place >= 0) & (engagements["at_ms"].to_numpy() > self.since_ms)
        if not counted.any():
            return
        post_id, at_ms = (engagements[name].to_numpy() for name in ("post_id", "at_ms"))
        with self._writing:
            self._fresh.append((post_id[counted], place[counted], at_ms[counted]))
            self._num_fresh += int(counted.sum())
            if len(self._fresh) > _MAX_PARTS or self._num_fresh > _MAX_FRESH:
                self._sort()
            self._newest_ms = max(self._newest_ms, int(at_ms[counted].max()))
            self._state = _merged(*self._state, post_id[counted], place[counted])

    def forget(self, until_ms: int) -> None:
        """Count only what was done after `until_ms`: the rest is in the bundle's counts."""
        with self._writing:
            self.since_ms = max(self.since_ms, until_ms)
            self._sort()
            first = np.searchsorted(self._sorted[2], self.since_ms, side="right")
            post_id, place, at_ms = (values[first:] for values in self._sorted)
            self._sorted = (post_id, place, at_ms)
            self._newest_ms = int(at_ms[-1]) if len(at_ms) else 0
            self._state = _counted(post_id, place)

    def table(self) -> pa.Table:
        """All that is counted: SCHEMA."""
        with self._writing:
            parts = [self._sorted, *self._fresh]
        columns = map(np.concatenate, zip(*parts, strict=True))
        return pa.Table.from_arrays([pa.array(values) for values in columns], schema=SCHEMA)

    def restore(self, table: pa.Table, since_ms: int) -> None:
        """Count what `table` holds, and that alone: all that was done since then."""
        with self._writing:
            post_id, place, at_ms = (table[name].to_numpy() for name in SCHEMA.names)
            self._fresh, self._num_fresh = [(post_id, place, at_ms)], 0
            self._sorted = (post_id[:0], place[:0], at_ms[:0])
            self._sort()
            self.since_ms = since_ms
            self._newest_ms = int(self._sorted[2][-1]) if len(at_ms) else 0
            self._state = _counted(post_id, place)

    def of(self, post_id: Ids, until_ms: int | None = None) -> Ids:
        """Counts of each post [C] by action, of what was done until then, None = all. [C, K]."""
        found = _of(*self._state, post_id)
        if until_ms is not None and until_ms < self._newest_ms:
            found = found - _of(*self._later(until_ms), post_id)
        return found

    def _later(self, than_ms: int) -> tuple[Ids, Ids]:
        """Counts of what was done after that; takes time in proportion to it alone."""
        with self._writing:
            first = np.searchsorted(self._sorted[2], than_ms, side="right")
            parts = [(self._sorted[0][first:], self._sorted[1][first:])]
            parts += [(p[at > than_ms], place[at > than_ms]) for p, place, at in self._fresh]
        post_id, place = map(np.concatenate, zip(*parts, strict=True))
        return _counted(post_id, place)

    def _sort(self) -> None:
        parts = [self._sorted, *self._fresh]
        post_id, place, at_ms = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(at_ms, kind="stable")
        self._sorted = (post_id[order], place[order], at_ms[order])
        self._fresh, self._num_fresh = [], 0


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
    merged = np.union1d(ids, post_id)
    total = np.zeros((len(merged), counts.shape[1]), np.int64)
    total[np.searchsorted(merged, ids)] = counts
    np.add.at(total, (np.searchsorted(merged, post_id), place), 1)
    return merged, total

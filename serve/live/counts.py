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


class LiveCounts:
    """Engagements by post and action of `COUNTED`, K, since an instant that a bundle moves on.

    Any thread may read at any time; writes wait for each other. An event that is told twice is
    counted twice: the follower of the journal leaves those out. Each takes 24 bytes until the next
    bundle.
    """

    def __init__(self) -> None:
        """Nothing was done yet."""
        none = np.empty(0, np.int64)
        self._events: list[tuple[Ids, Ids, Ids]] = []  # post, place of the action, ms since 1970
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
        counted = place >= 0
        if not counted.any():
            return
        post_id, at_ms = (engagements[name].to_numpy() for name in ("post_id", "at_ms"))
        with self._writing:
            self._events.append((post_id[counted], place[counted], at_ms[counted]))
            self._newest_ms = max(self._newest_ms, int(at_ms[counted].max()))
            self._state = _merged(*self._state, post_id[counted], place[counted])

    def forget(self, until_ms: int) -> None:
        """Count only what was done after `until_ms`: the rest is in the bundle's counts."""
        with self._writing:
            if not self._events:
                return
            post_id, place, at_ms = map(np.concatenate, zip(*self._events, strict=True))
            later = at_ms > until_ms
            self._events = [(post_id[later], place[later], at_ms[later])]
            self._state = self._counted(post_id[later], place[later])

    def of(self, post_id: Ids, until_ms: int | None = None) -> Ids:
        """Counts of each post [C] by action, of what was done until then, None = all. [C, K]."""
        ids, counts = self._state
        if until_ms is not None and until_ms < self._newest_ms:
            ids, counts = self._until(until_ms)
        if not len(ids):
            return np.zeros((len(post_id), len(_ACTIONS)), np.int64)
        place, known = positions(ids, post_id)
        return np.where(known[:, None], counts[place], 0)

    def _until(self, until_ms: int) -> tuple[Ids, Ids]:
        with self._writing:
            post_id, place, at_ms = map(np.concatenate, zip(*self._events, strict=True))
        return self._counted(post_id[at_ms <= until_ms], place[at_ms <= until_ms])

    def _counted(self, post_id: Ids, place: Ids) -> tuple[Ids, Ids]:
        none = np.empty(0, np.int64)
        return _merged(none, none.reshape(0, len(_ACTIONS)), post_id, place)


def _merged(ids: Ids, counts: Ids, post_id: Ids, place: Ids) -> tuple[Ids, Ids]:
    """Counts with one more for each of the events [n]."""
    merged = np.union1d(ids, post_id)
    total = np.zeros((len(merged), counts.shape[1]), np.int64)
    total[np.searchsorted(merged, ids)] = counts
    np.add.at(total, (np.searchsorted(merged, post_id), place), 1)
    return merged, total

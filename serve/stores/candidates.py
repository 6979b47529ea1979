"""Posts scored for viewers' last pages, so that the next ones are neither retrieved nor ranked."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from pipelines.feed.services import Scored
from serve.live.messages import Happened
from serve.lru import Lru

_OVERHEAD = 500  # bytes of an entry beside its arrays, about


class CandidateStore:
    """What was scored lately, by viewer and key, in the memory of one replica.

    The longest unused goes first once `max_bytes` are full. It is a view of the journal: a viewer
    who did something is forgotten. That alone would miss a page under way, which is why keys
    change with the viewer's history; see pipelines/feed/pool.py.

    Attributes:
        num_hits, num_misses: questions answered since the start, and not.
        num_dropped: entries of viewers who did something.
    """

    def __init__(self, max_bytes: int) -> None:
        """Hold nothing yet; what is larger than `max_bytes` by itself is never held."""
        self._entries: Lru[tuple[int, str], Scored] = Lru(max_bytes, _num_bytes)
        self._keys: defaultdict[int, set[str]] = defaultdict(set)  # by viewer
        self._lock = threading.Lock()  # the journal is followed by a thread of its own
        self.num_hits = self.num_misses = self.num_dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Held now."""
        return self._entries.num_bytes

    @property
    def num_evicted(self) -> int:
        """Entries that made room for others."""
        return self._entries.num_evicted

    def get(self, user_id: int, key: str, after_ms: int, before_ms: int) -> Scored | None:
        """The viewer's entry under `key` if it is of an instant in [after_ms, before_ms)."""
        with self._lock:
            scored = self._entries.get((user_id, key))
            if scored is None or not after_ms <= scored.at_ms < before_ms:
                self.num_misses += 1
                return None
            self.num_hits += 1
            return scored

    def put(self, user_id: int, key: str, scored: Scored) -> None:
        """Hold `scored` in place of the viewer's entry under `key`."""
        with self._lock:
            self._keys[user_id].add(key)
            for gone in self._entries.put((user_id, key), scored):
                self._forget(*gone)
            if (user_id, key) not in self._entries:  # it is too large
                self._forget(user_id, key)

    def drop(self, user_ids: Iterable[int]) -> None:
        """Forget all entries of these viewers."""
        with self._lock:
            for user_id in user_ids:
                for key in self._keys.pop(user_id, ()):
                    self._entries.pop((user_id, key))
                    self.num_dropped += 1

    def apply(self, happened: Happened) -> None:
        """As `serve.live.messages.View`: forget the viewers who did something."""
        self.drop(np.unique(happened.engagements["user_id"].to_numpy()).tolist())

    def _forget(self, user_id: int, key: str) -> None:
        self._keys[user_id].discard(key)
        if not self._keys[user_id]:
            del self._keys[user_id]


def _num_bytes(scored: Scored) -> int:
    arrays = (scored.post_id, scored.p_action, scored.left_out)
    return sum(array.nbytes for array in arrays) + _OVERHEAD

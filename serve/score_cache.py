"""What was predicted of a viewer's candidates, given again while it was computed from the same.

Axes: B viewers, C candidates, A actions.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.features import Inputs
from serve.context_caches import in_bytes
from serve.lru import Lru

Predictions = NDArray[np.float32]  # [B, C, A]
_MOST = 4_096  # predictions of one viewer; of more those of the last pass stay


@dataclass(frozen=True)
class _Kept:
    """One viewer's: digests in ascending order, uint64 [n], and the predictions [n, A]."""

    digests: NDArray[np.uint64]
    p_action: NDArray[np.float32]

    @classmethod
    def of(cls, digests: NDArray, p_action: NDArray, before: _Kept | None) -> _Kept:
        """These, and those before unless there are too many."""
        if before is not None and len(digests) + len(before.digests) <= _MOST:
            digests = np.concatenate([digests, before.digests])
            p_action = np.concatenate([p_action, before.p_action])
        digests, first = np.unique(digests, return_index=True)
        return cls(digests, p_action[first])

    @property
    def num_bytes(self) -> int:
        """Of both."""
        return self.digests.nbytes + self.p_action.nbytes


class ScoreCache:
    """The predictions of each viewer's last passes, as many viewers as fit so many bytes.

    They are kept under the viewer's key, each by a digest of all that the ranker reads of its
    candidate. So another hour, age or rate of a post is another digest. A score must depend on no
    other candidate, nor on where in the list its own stands.

    For any number of threads.

    Attributes:
        hits, misses: candidates whose prediction was there, and those whose was not.
    """

    def __init__(
        self,
        keys: Callable[[Inputs], Sequence[bytes]],
        predict: Callable[[Inputs], Predictions],
        num_actions: int,
        max_bytes: int,
    ) -> None:
        """Begin with none.

        Args:
            keys: of each viewer; the same for the same context alone.
            predict: as `Ranker.predict`, for inputs of both sides.
            num_actions: A of what it gives.
            max_bytes: of predictions and digests; who was longest not asked for goes first.
        """
        self._keys, self._predict, self._num_actions = keys, predict, num_actions
        self._kept: Lru[bytes, _Kept] = Lru(max_bytes, lambda kept: kept.num_bytes)
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def predict(self, inputs: Inputs) -> Predictions:
        """As `Ranker.predict`, for inputs of both sides and at least one candidate."""
        keys, there = self._keys(inputs), inputs["candidate_post_hashes"][..., 0] != 0
        digests = _digests(inputs)
        missing, p_action = there.copy(), np.zeros((*there.shape, self._num_actions), np.float32)
        with self._lock:
            kept = [self._kept.get(key) for key in keys]
        for row, old in enumerate(kept):
            if old is not None:
                at = np.searchsorted(old.digests, digests[row]).clip(max=len(old.digests) - 1)
                known = there[row] & (old.digests[at] == digests[row])
                p_action[row, known] = old.p_action[at[known]]
                missing[row] &= ~known
        if (missing == there).all():
            p_action = self._predict(inputs)  # without copies
        elif missing.any():
            p_action[missing] = self._computed(inputs, missing)
        for row, old in enumerate(kept):
            if missing[row].any():
                here = there[row]
                new = _Kept.of(digests[row, here], p_action[row, here], old)
                with self._lock:
                    self._kept.put(keys[row], new)
        with self._lock:
            self.misses += int(missing.sum())
            self.hits += int((there & ~missing).sum())
        return p_action

    def stats(self) -> dict[str, int]:
        """What was done so far, and what is kept."""
        with self._lock:
            counted = {"hits": self.hits, "misses": self.misses}
            return counted | {"kept": len(self._kept), "bytes": self._kept.num_bytes}

    def _computed(self, inputs: Inputs, missing: NDArray[np.bool_]) -> Predictions:
        """Of the missing alone, one after the other. [sum of missing, A]."""
        rows = missing.any(axis=1)
        most = missing.sum(axis=1).max()
        order = np.argsort(~missing[rows], axis=1, kind="stable")[:, :most]
        some = {name: values[rows] for name, values in inputs.items()}
        for name in some:
            if name.startswith("candidate_"):
                axes = order.reshape(*order.shape, *[1] * (some[name].ndim - 2))
                some[name] = np.take_along_axis(some[name], axes, axis=1)
        asked = np.take_along_axis(missing[rows], order, axis=1)
        some["candidate_post_hashes"] *= asked[..., None]  # the others are padding
        return self._predict(some)[asked]


def _digests(inputs: Inputs) -> NDArray[np.uint64]:
    """What tells a viewer's candidates apart. All arrays are [B, C, ...] of one shape for good."""
    rows = in_bytes(inputs, "candidate_", axes=2)
    joined = b"".join(
        hashlib.blake2b(row.data, digest_size=8).digest()
        for row in rows.reshape(-1, rows.shape[-1])
    )
    return np.frombuffer(joined, np.uint64).reshape(rows.shape[:2])

"""Viewers' contexts, computed again only when something that the ranker reads of them has changed.

Axes: B viewers, S history slots.
"""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.features import Inputs
from serve.lru import Lru
from serve.passes import Passes
from train.models.context import ContextCache, ViewerContext, joined
from train.models.ranker import Ranker
from train.models.tokens import tensors

_MOST_NEW = 4  # events that a kept context is extended by, one after another; after more it is anew


class ContextCaches:
    """The newest contexts by what they were computed from, as many as fit so many bytes.

    The key is a digest of the ranker's own inputs of a viewer and of the bundle's version, so an
    old context cannot be taken for a new one: another event, action, surface or dwell, a new fact
    of a post or viewer, or a time that falls into another of the features' buckets is another key.
    A viewer whose newest events are all that is new gets the context before, extended. That is
    exact while the events before read the same; where they do not, and where the history is full,
    so that its oldest event drops out, the context is computed anew.

    As int8 a context takes a quarter of the memory. Then a new one is rounded before it is used,
    too, so that scores do not depend on whether it was kept.

    For any number of threads.

    Attributes:
        hits: viewers for whom nothing was computed.
        extensions: contexts extended.
        misses: contexts computed from the start.
    """

    def __init__(
        self, model: Passes | Ranker, version: str, max_bytes: int, int8: bool = False
    ) -> None:
        """Begin with none.

        Args:
            model: whose contexts they are.
            version: of its bundle.
            max_bytes: of the contexts' numbers; those that were longest not asked for go first.
            int8: whether keys and values are kept as int8.
        """
        self._model, self._version, self._int8 = model, version.encode(), int8
        self._kept: Lru[bytes, ViewerContext] = Lru(max_bytes, lambda viewer: viewer.num_bytes)
        self._lock = threading.Lock()
        self.hits = self.extensions = self.misses = 0

    @torch.inference_mode()
    def of(self, inputs: Inputs) -> ContextCache:
        """Context of each viewer of `inputs`, as `features.history_inputs` gives them."""
        mine = _of_viewers(inputs)
        length = _lengths(mine)
        keys = _keys(mine, length, self._version)
        rows = {key[0]: row for row, key in enumerate(keys)}  # of each viewer once
        found, shorter = self._find({key: keys[row] for key, row in rows.items()})
        for key, (viewer, num_new) in shorter.items():
            row = rows[key]
            found[key] = self._extended(viewer, mine, row, range(length[row])[-num_new:])
        if missing := [key for key in rows if key not in found]:
            some = [rows[key] for key in missing]
            context = self._model.context(tensors({n: a[some] for n, a in mine.items()}))
            found |= dict(zip(missing, self._as_kept(context), strict=True))
        with self._lock:
            for key in (*shorter, *missing):
                self._kept.put(key, found[key])
            self.extensions += len(shorter)
            self.misses += len(missing)
            self.hits += len(keys) - len(shorter) - len(missing)
        return joined([found[key[0]] for key in keys])

    def keys(self, inputs: Inputs) -> list[bytes]:
        """What tells contexts of viewers apart."""
        mine = _of_viewers(inputs)
        return [key[0] for key in _keys(mine, _lengths(mine), self._version)]

    def predict(self, inputs: Inputs) -> torch.Tensor:
        """As `Ranker.predict`, for inputs of both sides."""
        return self._model.predict(tensors(inputs), self.of(inputs))

    def stats(self) -> dict[str, int]:
        """What was done so far, and what is kept."""
        with self._lock:
            counted = {n: getattr(self, n) for n in ("hits", "extensions", "misses")}
            counted |= {"evictions": self._kept.num_evicted}
            return counted | {"kept": len(self._kept), "bytes": self._kept.num_bytes}

    def _find(
        self, keys: dict[bytes, list[bytes]]
    ) -> tuple[dict[bytes, ViewerContext], dict[bytes, tuple[ViewerContext, int]]]:
        """Contexts that are kept; and of others those of all but so many of the newest events."""
        found, shorter = {}, {}
        with self._lock:
            for key, (_, *before) in keys.items():
                if (viewer := self._kept.get(key)) is not None:
                    found[key] = viewer
                    continue
                for num_new, old in enumerate(before, start=1):
                    if (viewer := self._kept.pop(old)) is not None:  # nobody asks for it again
                        shorter[key] = viewer, num_new
                        break
        return found, shorter

    def _extended(
        self, viewer: ViewerContext, inputs: Inputs, row: int, slots: range
    ) -> ViewerContext:
        context = joined([viewer])
        for slot in slots:
            event = {n: a[[row], slot : slot + 1] for n, a in inputs.items() if n[0] == "h"}
            context = self._model.extended(context, tensors(event))
        return self._as_kept(context)[0]

    def _as_kept(self, context: ContextCache) -> list[ViewerContext]:
        viewers = context.viewers()
        return [viewer.rounded() for viewer in viewers] if self._int8 else viewers


def _of_viewers(inputs: Inputs) -> Inputs:
    return {n: a for n, a in inputs.items() if n.startswith(("user_", "history_"))}


def _lengths(inputs: Inputs) -> NDArray[np.int64]:
    """Slots of each history up to the newest event. int64 [B]."""
    there = inputs["history_post_hashes"][..., 0] != 0
    return (np.arange(1, there.shape[1] + 1) * there).max(axis=1)


def _keys(inputs: Inputs, length: NDArray[np.int64], version: bytes) -> list[list[bytes]]:
    """Of each viewer the key, and those without the newest event, without the newest two, ...

    Not beyond a slot that holds no event: events after it stand one place further than a context
    without it would be extended to. What lies behind a history is no part of it. All arrays are
    [B, ...] of one shape and dtype for good, so that equal bytes mean equal inputs.
    """
    viewer = in_bytes(inputs, "user_", axes=1)
    events = in_bytes(inputs, "history_", axes=2)  # [B, S, bytes of an event]
    there = inputs["history_post_hashes"][..., 0] != 0
    keys = []
    for row, num_events in enumerate(length):
        holes = np.flatnonzero(~there[row, :num_events])
        first = max(0, num_events - _MOST_NEW, *(holes[-1:] + 1))
        digest = hashlib.blake2b(version, digest_size=16)
        digest.update(viewer[row].data)
        digest.update(events[row, :first].data)
        mine = [digest.digest()]
        for slot in range(first, num_events):
            digest.update(events[row, slot].data)
            mine.append(digest.digest())
        keys.append(mine[::-1])
    return keys


def in_bytes(inputs: Inputs, side: str, axes: int) -> NDArray[np.uint8]:
    """All arrays whose names begin so, side by side. uint8, the first `axes` axes as they are."""
    arrays = [np.ascontiguousarray(inputs[n]) for n in sorted(inputs) if n.startswith(side)]
    return np.concatenate(
        [a.reshape(*a.shape[:axes], -1).view(np.uint8) for a in arrays], axis=axes
    )

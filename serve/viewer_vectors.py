"""Vectors of viewers, computed again only when something that the user tower reads has changed.

Axes: B viewers, D width.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.features import Inputs

Vectors = NDArray[np.float32]


class ViewerVectors:
    """The newest vectors by what they were computed from.

    The key is a digest of the tower's own inputs, so an old vector cannot be taken for a new
    one: an engagement, a new fact of a post or viewer, or a time that falls into another of the
    features' buckets is another key.

    Attributes:
        hits, misses: viewers whose vector was there, and those whose was not.
    """

    def __init__(self, tower: Callable[[Inputs], Vectors], max_viewers: int) -> None:
        """Begin with none.

        Args:
            tower: gives each row its vector, whatever the other rows are. Inputs of B rows
                -> [B, D].
            max_viewers: vectors kept; those that were longest not asked for go first.
        """
        self._tower, self._max_viewers = tower, max_viewers
        self._kept: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def of(self, inputs: Inputs) -> Vectors:
        """Vector of each row of `inputs`. [B, D]."""
        keys = _digests(inputs)
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
            missing = [row for row, key in enumerate(keys) if key not in found]
            self.hits += len(keys) - len(missing)
            self.misses += len(missing)
        if missing:
            new = self._tower({name: values[missing] for name, values in inputs.items()})
            found |= {keys[row]: vector for row, vector in zip(missing, new, strict=True)}
            self._keep({keys[row]: found[keys[row]].copy() for row in missing})
        return np.stack([found[key] for key in keys])

    def _keep(self, new: dict[bytes, Vectors]) -> None:
        with self._lock:
            self._kept.update(new)
            while len(self._kept) > self._max_viewers:
                self._kept.popitem(last=False)


def _digests(inputs: Inputs) -> list[bytes]:
    """What tells rows apart. All arrays are [B, ...] of one shape and dtype for good."""
    arrays = [np.ascontiguousarray(inputs[name]) for name in sorted(inputs)]
    digests = []
    for row in range(len(arrays[0])):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array[row].data)
        digests.append(digest.digest())
    return digests

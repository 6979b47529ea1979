"""Which posts fall to which part of all: a hash of the id says, so new ones have a part too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.encoding import hash_ids

_SALT = 6  # no feature's, see pipelines/features.py


@dataclass(frozen=True)
class Part:
    """One of `of` parts that hold every post once, each about as many; `number` from 0."""

    number: int
    of: int

    def has(self, post_id: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each post [n] is in this part."""
        return hash_ids(post_id, 1, self.of + 1, _SALT)[..., 0] == self.number + 1

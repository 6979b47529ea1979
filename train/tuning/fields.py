"""Interference fields of many requests, computed once for each setting that changes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.facts import find
from pipelines.features import History
from train.models.fractal.blend import InterferenceBlend
from train.models.fractal.config import FieldConfig
from train.models.fractal.liked import Parts, liked, parts, parts_key

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PostVectors:
    """Vectors of some posts in one space.

    Attributes:
        post_id: sorted. int64 [N].
        vectors: zeros = none. float32 [N, D].
    """

    post_id: Ids
    vectors: NDArray[np.float32]

    def of(self, post_id: Ids) -> NDArray[np.float32]:
        """Of each post; zeros = unknown. [n, D]."""
        row = find(post_id, self.post_id)
        return np.where((row >= 0)[:, None], self.vectors[row], np.float32(0))


@dataclass(frozen=True)
class _Key:
    """All that decides what the parts of a request's field are."""

    space: str
    max_history: int
    good: int
    bad: int
    field: FieldConfig


class Fields:
    """Parts of fields by setting and request; of many settings the last used are kept."""

    def __init__(self, spaces: Mapping[str, PostVectors], most: int) -> None:
        """Compute from these vectors, by space; keep `most` settings."""
        self._spaces, self._most = spaces, most
        self._kept: OrderedDict[_Key, dict[str, Parts]] = OrderedDict()

    def of(
        self,
        request_id: str,
        history: History,
        post_id: Ids,
        blend: InterferenceBlend,
        signs: tuple[int, int],
    ) -> Parts:
        """The field of one request's viewer at its candidates.

        Args:
            request_id: whose candidates are always these.
            history: of the viewer.
            post_id: candidates. [C].
            blend: says how the field is made.
            signs: bits of the actions that make a post liked and of those that do not.
        """
        key = _Key(blend.space, blend.max_history, *signs, parts_key(blend.field))
        kept = self._kept.setdefault(key, {})
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        if request_id not in kept:
            sources = liked(history, *signs, blend.max_history)
            vectors = self._spaces[blend.space].of(np.concatenate([sources, post_id]))
            kept[request_id] = parts(vectors, len(sources), blend.field)
        return kept[request_id]

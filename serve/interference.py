"""The interference field of a viewer's history at candidates, from a bundle's vectors of posts."""

from __future__ import annotations

import threading
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.facts import find
from pipelines.feed.services import Interference, Space
from serve.models import Interfering
from train.bundle import Bundle
from train.index import place_posts
from train.models.fractal.liked import liked, parts, signs
from train.models.prefix import SeparatedHead
from train.models.text_towers import Towers
from train.prefix_index import of_content

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]


class InterferenceFields:
    """Fields by the post tower's vectors, the texts' or their prefix head's.

    They are read when first asked for.

    Posts that were liked send waves: those with an action of positive weight and none of
    negative weight.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._facts, self._blend = bundle, bundle.facts, bundle.interference
        self._good, self._bad = signs(bundle.weights)
        self._new: dict[int, Vectors] = {}
        self._waiting: dict[int, pa.Table] = {}  # told, and not yet placed
        self._lock = threading.Lock()

    def interference(self, asked: Interfering) -> Interference:
        """The field at each post; 0 where a post has no vector, or no liked post has one."""
        space = asked.space or self._blend.space
        config = self._blend.field.weighing(asked.scale_weights)
        sources = liked(asked.history, self._good, self._bad, self._blend.max_history)
        together = self.vectors(np.concatenate([sources, asked.post_id]), space)
        found = parts(together, len(sources), config)
        return found.told(config, self._blend.alpha)

    def vectors(self, post_id: Ids, space: Space) -> Vectors:
        """What posts are in a space; zeros = unknown. [n, D].

        Raises:
            BundleError: prefix vectors, of which the bundle has none.
        """
        if space != "two_tower":
            content = self._facts.of_posts(post_id, "content")[0]
            return content if space == "content" else of_content(self._head, content)
        ids, stored = self._stored
        place = find(post_id, ids)
        found = np.where((place >= 0)[:, None], stored[place], np.float32(0))
        if self._new or self._waiting:
            self._place_new()
            for row in np.flatnonzero(place < 0):
                found[row] = self._new.get(int(post_id[row]), 0)
        return found

    def add_posts(self, posts: pa.Table, content: Vectors | None) -> None:
        """As `new_posts.Knows`; they are placed when a field is next asked for."""
        with self._lock:
            self._facts = self._facts.with_posts(posts, content)
            for row, post_id in enumerate(posts["post_id"].to_pylist()):
                self._waiting[post_id] = posts.slice(row, 1)

    def remove_posts(self, post_id: Ids) -> None:
        """As `new_posts.Knows`; what a viewer liked of the bundle's goes on sending."""
        with self._lock:
            self._facts = self._facts.without_posts(post_id)
            for gone in post_id.tolist():
                self._waiting.pop(gone, None)
                self._new.pop(gone, None)

    def _place_new(self) -> None:
        with self._lock:
            if self._waiting:
                posts = pa.concat_tables(self._waiting.values())
                placed = place_posts(self._towers, posts, self._facts)
                self._new.update(zip(posts["post_id"].to_pylist(), placed, strict=True))
                self._waiting.clear()

    @cached_property
    def _stored(self) -> tuple[Ids, Vectors]:
        """Sorted posts of the bundle's index, and their vectors."""
        index = self._bundle.load_index()
        order = np.argsort(index.post_id)
        return index.post_id[order], index.stored()[order]

    @cached_property
    def _head(self) -> SeparatedHead:
        return self._bundle.prefix_head()

    @cached_property
    def _towers(self) -> Towers:
        return self._bundle.load_two_tower()

"""Vectors of posts that one process searches, and how those told since get theirs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.facts import Facts
from serve.models import version
from serve.stores.prefix import PrefixVectors
from serve.stores.vectors import VectorSettings, open_vectors, topics_of
from train.bundle import Bundle
from train.index import place_posts
from train.models.text_towers import Towers


class PostVectors:
    """Of the posts of a bundle, or of the part that it is of.

    Attributes:
        posts: the post tower's.
        prefix: those of zoom; None = the bundle has none.
    """

    def __init__(
        self, bundle: Bundle, towers: Towers, settings: VectorSettings, prefix_merge_after: int
    ) -> None:
        """Open the indexes; errors as for `open_vectors`."""
        self._towers = towers
        self.posts = open_vectors(settings, bundle, version(bundle))
        self.prefix: PrefixVectors | None = None
        if bundle.has_prefix:
            index, head = bundle.load_prefix_index(), bundle.prefix_head()
            self.prefix = PrefixVectors.of(index, head, prefix_merge_after)

    def add(self, posts: pa.Table, content: NDArray[np.float32] | None, facts: Facts) -> None:
        """Find posts from now on; as `new_posts.Knows.add_posts`, with the facts of them."""
        post_id = posts["post_id"].to_numpy()
        self.posts.add(post_id, place_posts(self._towers, posts, facts), topics_of(posts))
        if self.prefix is not None and content is not None:
            self.prefix.add(post_id, content)

    def remove(self, post_id: NDArray[np.int64]) -> None:
        """Find posts no more, the bundle's neither. [n]."""
        self.posts.remove(post_id)
        if self.prefix is not None:
            self.prefix.remove(post_id)

    def close(self) -> None:
        """Give back what is held."""
        self.posts.close()

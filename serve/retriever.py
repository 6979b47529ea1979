"""Two-tower retrieval and zoom: over vectors in this process, or over shards that hold them.

Axes: B requests answered together, D width of a vector, k posts found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, model_validator

from configs import Config
from pipelines.features import Inputs, history_inputs, history_rows
from pipelines.feed.services import Hits
from serve.models import Comparison, Near, Nearby, Search, version
from serve.post_vectors import PostVectors
from serve.stores.prefix import PrefixPosts, PrefixSettings, PrefixVectors
from serve.stores.vectors import VectorIndex, VectorsError, VectorSettings
from serve.stores.vectors.sharded import ShardedVectors, Shards, noting_missing
from serve.viewer_vectors import ViewerVectors
from train.bundle import Bundle
from train.models.tokens import tensors


class RetrieverSettings(Config):
    """How posts near a viewer are found."""

    vectors: VectorSettings = VectorSettings()  # of posts
    # Deployments that hold a part of the vectors each, IndexShard0 and so on; 1 = the Retriever
    # holds them all.
    shards: PositiveInt = 1
    shard_timeout_ms: PositiveInt = 300  # then a page is made of what the other shards found
    shard_retry_after_s: PositiveFloat = 1.0  # a shard that failed is asked no more for so long
    cached_viewers: PositiveInt = 10_000  # whose vectors are kept until they change
    prefix: PrefixSettings = PrefixSettings()  # of zoom, where the bundle has prefix vectors

    @model_validator(mode="after")
    def _shards_hold_them(self) -> RetrieverSettings:
        if self.shards > 1 and self.vectors.kind != "faiss":
            raise ValueError(
                f"shards: {self.shards} with vectors.kind: {self.vectors.kind}, whose one table "
                "all replicas share; take shards: 1, or kind: faiss"
            )
        return self


class Retriever:
    """Two-tower retrieval: viewers near posts."""

    def __init__(
        self,
        bundle: Bundle,
        settings: RetrieverSettings | None = None,
        shards: Shards | None = None,
    ) -> None:
        """Read the towers and open the index.

        Args:
            bundle: whole.
            settings: None = defaults.
            shards: who holds the vectors; None = they are opened here.

        Raises:
            VectorsError, ConfigError: as for `open_vectors`.
        """
        settings = settings or RetrieverSettings()
        self._towers, self._facts = bundle.load_two_tower(), bundle.facts
        self._spec = self._towers.config.features
        self.viewers = ViewerVectors(self._user, settings.cached_viewers)
        self._held: PostVectors | None = None
        self._vectors: VectorIndex
        if shards is None:
            merge_after = settings.prefix.merge_after
            self._held = PostVectors(bundle, self._towers, settings.vectors, merge_after)
            self._vectors, prefix = self._held.posts, self._held.prefix
        else:
            self._vectors = ShardedVectors(shards, version(bundle), "posts")
            prefix = _sharded_prefix(bundle, shards) if bundle.has_prefix else None
        self._prefix: PrefixPosts | None = None
        if prefix is not None:
            self._prefix = PrefixPosts(prefix, self._topic_of, settings.prefix)

    def search(self, searches: Sequence[Search]) -> list[Hits]:
        """Answer all `searches` [B] in one pass; each as if it were alone.

        Raises:
            VectorsError: the index cannot be reached.
        """
        query = self._place(searches)
        most = max(search.num_posts for search in searches)
        topics = [search.topic_ids for search in searches]
        with noting_missing() as missing:
            post_id, similarity = self._vectors.search(query, most, topics)
        placed = (query != 0).any(axis=1)  # of nobody else is any post near
        found = (post_id > 0) & placed[:, None]
        return [
            Hits(
                post_id[row, found[row]][: search.num_posts],
                similarity[row, found[row]][: search.num_posts],
                tuple(sorted(missing)) if placed[row] else (),
            )
            for row, search in enumerate(searches)
        ]

    def near(self, asked: Sequence[Nearby]) -> list[Near]:
        """Answer each by the prefix vectors.

        Raises:
            LookupError: the bundle has none.
            VectorsError: no shard answers, or those that do not may have all that is asked by.
        """
        if self._prefix is None:
            raise LookupError("this bundle has no prefix vectors")
        return [self._near(self._prefix, one) for one in asked]

    def similarity(self, comparisons: Sequence[Comparison]) -> list[float | None]:
        """What `search` ranks by, each for one post; None = no place for the viewer or the post.

        Raises:
            VectorsError: the index cannot be reached.
        """
        query = self._place(comparisons)
        post_id = np.array([comparison.post_id for comparison in comparisons])
        similarity = self._vectors.similarity(query, post_id)
        known = query.any(axis=1) & np.isfinite(similarity)
        return [float(s) if here else None for s, here in zip(similarity, known, strict=True)]

    def add_posts(self, posts: pa.Table, content: NDArray[np.float32] | None) -> None:
        """As `new_posts.Knows`: from now on they are found, where they are held here."""
        facts = self._facts.with_posts(posts, content)
        if self._held is not None:
            self._held.add(posts, content, facts)
        self._facts = facts

    def remove_posts(self, post_id: NDArray[np.int64]) -> None:
        """As `new_posts.Knows`: from now on they are not found, the bundle's neither."""
        if self._held is not None:
            self._held.remove(post_id)
        self._facts = self._facts.without_posts(post_id)

    def close(self) -> None:
        """Give back what the index holds."""
        if self._held is not None:
            self._held.close()

    def _near(self, prefix: PrefixPosts, asked: Nearby) -> Near:
        with noting_missing() as missing:
            near = prefix.near(asked)
        if missing and not near.placed:
            raise VectorsError(f"{', '.join(sorted(missing))}: no answer")
        return replace(near, missing=tuple(sorted(missing))) if missing else near

    def _place(self, asked: Sequence[Search] | Sequence[Comparison]) -> NDArray[np.float32]:
        """Where the viewers stand; zeros = nowhere. [B, D]."""
        rows = history_rows([a.history for a in asked], [a.at_ms for a in asked])
        return self.viewers.of(history_inputs(rows, self._spec, self._facts))

    def _topic_of(self, post_id: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._facts.of_posts(post_id, "topic")[0][:, 0]

    def _user(self, inputs: Inputs) -> NDArray[np.float32]:
        with torch.inference_mode():
            return self._towers.user(tensors(inputs)).numpy()


def _sharded_prefix(bundle: Bundle, shards: Shards) -> PrefixVectors:
    head = bundle.prefix_head()
    coarse, full = (
        ShardedVectors(shards, version(bundle), "coarse"),
        ShardedVectors(shards, version(bundle), "full"),
    )
    ratio = math.sqrt(1 / head.scales[0] ** 2 - 1)  # vectors have length 1
    return PrefixVectors(coarse, full, head, head.config.part_sizes[0], ratio)

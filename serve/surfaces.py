"""What search, explore and conversations ask of a bundle, beyond what the timeline does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.facts import Facts
from pipelines.feed.services import By, Hits
from serve.query_encoder import QueryEncoder
from serve.stores.posts import PostStore
from serve.stores.rising import Rising
from serve.stores.search import WordIndex
from serve.stores.threads import Replies
from train.bundle import Bundle

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class SurfaceStores:
    """Posts by words, by meaning, by whom they answer, and by how fast they rise.

    New posts are found once `add` was told of them.
    """

    words: WordIndex
    encoder: QueryEncoder
    replies: Replies
    rising: Rising

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        posts: PostStore,
        engagement: Callable[[Ids, int], Mapping[str, NDArray]],
    ) -> SurfaceStores:
        """Index the posts of `bundle`; the encoder is loaded when first asked, or by `load`."""
        words, replies = WordIndex(), Replies()
        words.add(bundle.posts)
        replies.add(bundle.posts)
        encoder = QueryEncoder(bundle.card.get("content"), bundle.facts.content.shape[1])
        return cls(words, encoder, replies, Rising(posts, engagement))

    def add(self, posts: pa.Table) -> None:
        """Find rows of schema.POSTS from now on; what is here already may come again."""
        self.words.add(posts)
        self.replies.add(posts)

    def forget(self, post_id: Ids) -> None:
        """Find posts [n] no longer, those of the bundle neither."""
        self.words.forget(post_id)
        self.replies.forget(post_id)


class _Stores(Protocol):
    @property
    def facts(self) -> Facts: ...

    @property
    def surfaces(self) -> SurfaceStores: ...


class OfSurfaces:
    """The part of `pipelines.feed.services.Services` that these three feeds ask; to inherit."""

    stores: _Stores

    async def rising(self, num_posts: int, at_ms: int, window_hours: float) -> Hits:
        """From the bundle's as-of counts."""
        return self.stores.surfaces.rising.at(num_posts, at_ms, window_hours)

    async def search(self, text: str, num_posts: int, by: By) -> Hits:
        """From the index of words, or from the bundle's vectors of text, on a thread."""
        if by == "words":
            return self.stores.surfaces.words.search(text, num_posts)
        return await asyncio.to_thread(self._near, text, num_posts)

    async def match(self, text: str, post_id: Ids) -> dict[By, NDArray[np.float64]]:
        """From both."""
        words = self.stores.surfaces.words.match(text, post_id)
        vector = await asyncio.to_thread(self.stores.surfaces.encoder, text)
        if vector is None:
            return {"words": words, "meaning": np.full(len(post_id), np.nan)}
        facts = self.stores.facts
        cosine = (facts.content[facts.post_row(post_id)] @ vector).astype(np.float64)
        cosine[cosine == 0] = np.nan  # of a post without a vector
        return {"words": words, "meaning": cosine}

    async def conversation(self, post_id: int, num_posts: int) -> Hits:
        """From who answers whom."""
        return self.stores.surfaces.replies.below(post_id, num_posts)

    def _near(self, text: str, num_posts: int) -> Hits:
        vector, facts = self.stores.surfaces.encoder(text), self.stores.facts
        if vector is None:
            return Hits(facts.post_id[:0], np.empty(0))
        cosine = facts.content[:-1] @ vector
        num_posts = min(num_posts, len(cosine))
        rows = np.argpartition(-cosine, num_posts - 1)[:num_posts]
        rows = rows[cosine[rows] > 0]
        rows = rows[np.lexsort((rows, -cosine[rows]))]
        return Hits(facts.post_id[rows], cosine[rows])

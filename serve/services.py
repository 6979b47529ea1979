"""What the feed asks of the outside, as far as a bundle and what came since can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.services import Blend, Graph, Hits, Interference, Scored, Space, Zoom
from pipelines.feed.table import Candidates
from serve.models import Comparison, Interfering, Models, Nearby, Ranking, Search
from serve.stores.bundle import Stores
from serve.surfaces import OfSurfaces


@dataclass(frozen=True)
class FromBundle(OfSurfaces):
    """The part of `pipelines.feed.services.Services` that a bundle answers.

    Attributes:
        models: where predictions come from.
        stores: the tables of the bundle being served.
    """

    models: Models
    stores: Stores

    async def history(self, user_id: int) -> History | None:
        """From the bundle; what was done since, `recent_actions` tells."""
        return self.stores.profiles.history(user_id)

    async def graph(self, user_id: int) -> Graph:
        """From the bundle."""
        return self.stores.graph.of(user_id)

    async def seen(self, user_id: int) -> NDArray[np.int64]:
        """In the bundle's history."""
        return self.stores.profiles.seen(user_id)

    async def retrieve(
        self, history: History, num_posts: int, at_ms: int, topic_ids: tuple[int, ...] = ()
    ) -> Hits:
        """From the two towers."""
        return await self.models.search(Search(history, num_posts, at_ms, topic_ids))

    async def near(self, history: History, num_posts: int, zoom: Zoom) -> Hits:
        """From the prefix vectors of the bundle and of what came since."""
        found = await self.models.near(Nearby(history, num_posts, zoom))
        return Hits(found.post_id, found.similarity, found.missing)

    async def similarity(self, history: History, post_id: int, at_ms: int) -> float | None:
        """From the two towers; None = the viewer or the post has no place in their space."""
        return await self.models.similarity(Comparison(history, post_id, at_ms))

    async def popular(self, num_posts: int) -> Hits:
        """From the bundle."""
        return self.stores.posts.most_liked(num_posts)

    async def recent(
        self, user_id: int, author_ids: NDArray[np.int64], num_posts: int, at_ms: int
    ) -> Hits:
        """From the posts of the last days, which are the bundle's and what came since."""
        return self.stores.live.recent.read(user_id, author_ids, (), at_ms, num_posts)

    async def posts(self, post_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """From the bundle."""
        return self.stores.posts.facts(post_id)

    async def mentions(
        self, post_id: NDArray[np.int64], keywords: tuple[str, ...]
    ) -> NDArray[np.bool_]:
        """From the bundle's texts."""
        return self.stores.posts.mention(post_id, keywords)

    async def users(self, user_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """From the bundle."""
        return self.stores.users.facts(user_id)

    async def engagement(self, post_id: NDArray[np.int64], at_ms: int) -> dict[str, NDArray]:
        """From the bundle's as-of counts, and what was done since."""
        return self.stores.engagement(post_id, at_ms)

    async def rank(
        self,
        history: History,
        post_id: NDArray[np.int64],
        author_id: NDArray[np.int64],
        surface: int,
        at_ms: int,
    ) -> NDArray[np.float32]:
        """From the ranker."""
        return await self.models.rank(Ranking(history, post_id, author_id, surface, at_ms))

    async def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """From the value model."""
        return await self.models.value(p_action)

    async def blend(self) -> Blend:
        """From the bundle."""
        return self.stores.blend

    async def interference(
        self,
        history: History,
        post_id: NDArray[np.int64],
        space: Space | None,
        scale_weights: tuple[float, ...] | None,
    ) -> Interference:
        """From the field of the bundle's vectors."""
        return await self.models.interference(Interfering(history, post_id, space, scale_weights))

    async def vectors(self, post_id: NDArray[np.int64]) -> NDArray[np.float32]:
        """From the bundle's vectors of text, if it has any."""
        return self.stores.facts.of_posts(post_id, "content")[0]


class RecordsNothing:
    """The part of `pipelines.feed.services.Services` that is told of pages, for who shows none."""

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Nothing was shown."""

    async def remember(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Nothing was shown."""

    async def cache(self, user_id: int, key: str, scored: Scored) -> None:
        """Nothing: what is there is what pages were made from."""

    async def audit(
        self, user_id: int, request_id: str, now_ms: int, surface: int, pool: Candidates
    ) -> None:
        """Nobody was served."""

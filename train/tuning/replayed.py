"""What the feed asks of the outside, answered as it would have been at the time of a visit.

A bundle knows all of its log: how viewers went on, what became popular later. Here histories are
those of the visits, counts and predictions are as of them, and popularity is of the training days.
What has no time (authors, follows, texts) is answered by the bundle's own services.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.facts import Facts, find
from pipelines.features import History, candidate_inputs, history_inputs, history_rows
from pipelines.feed.discover import Found, discover
from pipelines.feed.services import Blend, Hits, Services
from pipelines.feed.stages import FeedQuery, Filter, Source
from pipelines.feed.table import Candidates
from pipelines.schema import COUNTED
from train.bundle import Bundle
from train.bundle.tables import popularity
from train.models.tokens import tensors
from train.prefix_index import of_content
from train.rows import flatten, read_examples
from train.tuning.fields import PostVectors
from train.tuning.visits import Visit

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Logged(Source):
    """Brings the posts that the log shows of the visit: of no others is it known what came of them.

    Value: 1 for each.
    """

    needs = ()
    fails = "closed"

    async def find(self, query: FeedQuery, services: Any) -> Hits:
        """Look into the visit."""
        shown = services.visit.post_id
        return Hits(shown, np.ones(len(shown)))


@dataclass(frozen=True, kw_only=True)
class WrittenLater(Filter):
    """Drops posts that were not there yet at the time of the visit."""

    needs = ("created_at_s", "logged_rank")
    fails = "closed"
    provides: ClassVar = {}

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Compare with the instant of the request; what was shown was there."""
        return ~(posts["created_at_s"] > query.now_s) | (posts["logged_rank"] > 0)


@cache
def with_logged() -> Found:
    """All components, and those of a replay beside them."""
    components = {stage: dict(named) for stage, named in discover().items()}
    components["sources"]["logged"] = Logged
    components["filters"]["written_later"] = WrittenLater
    return components


class ModelsThen:
    """A bundle's models, fed with what was known at an instant."""

    def __init__(self, bundle: Bundle, data: Path) -> None:
        """Load them.

        Args:
            bundle: what is tuned.
            data: that it was trained on, which knows rates at any time; the bundle only its last.
        """
        self.bundle, self._facts = bundle, Facts.load(data)
        self._ranker, self._towers = bundle.load_ranker(), bundle.load_two_tower()
        self._index = bundle.load_index()
        self._trained_on = flatten(read_examples(data, "train"))

    @property
    def learned(self) -> NDArray[np.bool_]:
        """Which of the bundle's actions its ranker learned. [A]."""
        return np.isin(self.bundle.actions, self.bundle.card["observed_actions"])

    @property
    def dwell_cap_s(self) -> float:
        """Longer stays count as this long in what the ranker predicts."""
        return float(getattr(self._ranker.config, "dwell_cap_s", np.inf))

    def rank(
        self, history: History, post_id: Ids, author_id: Ids, surface: int, at_ms: int
    ) -> NDArray[np.float32]:
        """As `Services.rank`."""
        spec = self._ranker.config.features
        rows = history_rows([history], [at_ms])
        where = surface or int(history.surface[-1:].sum())
        shape = np.ones((1, len(post_id)), np.int64)
        candidates = candidate_inputs(
            rows,
            post_id[None],
            author_id[None],
            (where * shape).astype(np.int16),
            at_ms * shape,
            spec,
            self._facts,
        )
        inputs = {**history_inputs(rows, spec, self._facts), **candidates}
        with torch.inference_mode():
            return self._ranker.predict(tensors(inputs)).numpy()[0, : len(post_id)]

    def retrieve(self, history: History, num_posts: int, at_ms: int) -> Hits:
        """As `Services.retrieve`, from all posts."""
        rows = history_rows([history], [at_ms])
        inputs = history_inputs(rows, self._towers.config.features, self._facts)
        with torch.inference_mode():
            viewer = self._towers.user(tensors(inputs)).numpy()
        post_id, similarity = self._index.search(viewer, num_posts)
        there = (post_id[0] > 0) & bool(viewer.any())
        return Hits(post_id[0][there], similarity[0][there])

    def engagement(self, post_id: Ids, at_ms: int) -> dict[str, Ids]:
        """As `Services.engagement`."""
        found = dict.fromkeys(("num_views", *COUNTED), np.full(len(post_id), -1))
        if "post" in self._facts.rates:
            at = np.full(len(post_id), at_ms)
            counts = self._facts.rates["post"].before(post_id, at).astype(np.int64)
            found["num_views"] = counts[:, 0]
            for name, action in COUNTED.items():
                if action in self.bundle.card["observed_actions"]:
                    found[name] = counts[:, 1 + self.bundle.actions.index(action)]
        return found

    def popular(self, num_posts: int) -> Hits:
        """As `Services.popular`, of the training days."""
        ids, rate = self._popularity
        best = np.argsort(-rate, kind="stable")[:num_posts]
        return Hits(ids[best], rate[best])

    def popularity(self, post_id: Ids) -> NDArray[np.float64]:
        """Of each post, in the training days; 0 for posts that are not known. [C]."""
        ids, rate = self._popularity
        return np.append(rate, 0.0)[find(post_id, ids)]

    def vectors(self, post_id: Ids, space: str) -> PostVectors:
        """Vectors of posts in one space; those that have none are left out."""
        ids = np.unique(post_id[post_id > 0])
        if space != "two_tower":
            found = self._facts.of_posts(ids, "content")[0]
            if space == "prefix":
                found = of_content(self.bundle.prefix_head(), found)
        else:
            order = np.argsort(self._index.post_id)
            stored = PostVectors(self._index.post_id[order], self._index.stored()[order])
            found = stored.of(ids)
        return PostVectors(ids, np.ascontiguousarray(found, np.float32))

    @cached_property
    def _popularity(self) -> tuple[Ids, NDArray[np.float64]]:
        ids = self._facts.post_id
        return ids, popularity(ids, self._trained_on)


class Replayed:
    """`pipelines.feed.services.Services` at the time of one visit."""

    def __init__(self, visit: Visit, models: ModelsThen, beside: Services) -> None:
        """Answer for `visit`; `beside` answers what has no time."""
        self.visit, self._models, self._beside = visit, models, beside

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beside, name)

    async def history(self, user_id: int) -> History | None:
        """What the log knew of the viewer."""
        return self.visit.history

    async def seen(self, user_id: int) -> Ids:
        """Posts in that history."""
        history = self.visit.history
        return np.empty(0, np.int64) if history is None else np.unique(history.post_id)

    async def retrieve(
        self, history: History, num_posts: int, at_ms: int, topic_ids: tuple[int, ...] = ()
    ) -> Hits:
        """From the bundle's towers; no logged request asks for topics."""
        return self._models.retrieve(history, num_posts, at_ms)

    async def popular(self, num_posts: int) -> Hits:
        """Of the training days."""
        return self._models.popular(num_posts)

    async def posts(self, post_id: Ids) -> dict[str, NDArray]:
        """From the bundle, but for popularity."""
        facts = await self._beside.posts(post_id)
        return facts | {"popularity": self._models.popularity(post_id)}

    async def engagement(self, post_id: Ids, at_ms: int) -> dict[str, Ids]:
        """As of the visit."""
        return self._models.engagement(post_id, at_ms)

    async def rank(
        self, history: History, post_id: Ids, author_id: Ids, surface: int, at_ms: int
    ) -> NDArray[np.float32]:
        """From the bundle's ranker."""
        return self._models.rank(history, post_id, author_id, surface, at_ms)

    async def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """By the bundle's weights."""
        return p_action @ self._models.bundle.weights

    async def blend(self) -> Blend:
        """The bundle's."""
        bundle = self._models.bundle
        return Blend(bundle.actions, bundle.weights, self._models.learned, bundle.weights)

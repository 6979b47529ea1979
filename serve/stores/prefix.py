"""Posts near a text or a taste by their prefix embeddings, coarse to fine.

Two stages: the short prefix of all posts gives candidates, whose whole vectors are then compared.
Zoom 0 needs the short prefix alone; a small index is compared whole, which is exact.

Axes: n posts, W width of a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from configs import Config
from pipelines.features import History
from pipelines.schema import ACTIONS
from serve.models import Near, Nearby
from serve.stores.vectors.faiss import FaissVectors
from train.models.fractal.liked import liked as liked_posts
from train.models.prefix import SeparatedHead
from train.prefix_index import PrefixIndex, embed, split, unit

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Query = tuple[Vectors, Vectors]  # both parts at length 1: [coarse_size], [W - coarse_size]
_LIKES = sum(1 << bit for bit, a in enumerate(ACTIONS) if a.weight > 0 and not a.continuous)
_DISLIKES = sum(1 << bit for bit, a in enumerate(ACTIONS) if a.weight < 0)


class PrefixSettings(Config):
    """How prefix vectors are searched."""

    # Posts from which on, and zoom below which, there are two stages: candidates of the short
    # prefix, whose whole vectors are compared. Else whole vectors are searched. By a finer zoom the
    # prefix says too little, see tests/bench/bench_rescan.py; a zoom above 1 is for all.
    two_stages_from: PositiveInt = 20_000
    whole_from_zoom: PositiveFloat = 0.5
    rescanned: PositiveInt = 500  # candidates
    history_len: PositiveInt = 32  # newest liked posts that make a viewer
    # zoom: auto. Of a post: coarse where so much of its nearest posts by the short prefix are on
    # one topic, which is then settled.
    agree: float = Field(default=0.8, ge=0, le=1)
    neighbours: PositiveInt = 20
    # Of a viewer: coarse where likes spread over as many topics as so many equally liked ones.
    spread: PositiveFloat = 3.0
    merge_after: PositiveInt = 10_000  # posts added, or taken out, until they are merged


class Searched(Protocol):
    """A `VectorIndex` that gives back what it holds."""

    def search(self, query: Vectors, num_posts: int) -> tuple[Ids, Vectors]:
        """As `VectorIndex.search`."""

    def stored(self, post_id: Ids) -> Vectors:
        """Vector of each post, NaN = no such post. [n] -> [n, D]."""

    def add(self, post_id: Ids, vectors: Vectors, topic_ids: Ids) -> None:
        """As `VectorIndex.add`."""

    def remove(self, post_id: Ids) -> None:
        """As `VectorIndex.remove`."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class PrefixVectors:
    """The prefix vectors of a bundle, and of what came since. Any thread may use them.

    Attributes:
        coarse: the first block of each vector.
        full: whole vectors, of the same posts.
        head: makes them of texts' vectors.
        size: numbers of the first block.
        fine_over_coarse: lengths of both parts, the same in all vectors, see `SeparatedHead`.
    """

    coarse: Searched
    full: Searched
    head: SeparatedHead
    size: int
    fine_over_coarse: float

    @classmethod
    def of(cls, index: PrefixIndex, head: SeparatedHead, merge_after: int = 10_000) -> Self:
        """Begin with the posts of a bundle; `merge_after` as for `FaissVectors`."""
        first = np.split(index.full.stored()[0], [index.coarse_size])
        none = np.empty((len(index.full.post_id), 0), np.int64)
        coarse, full = (FaissVectors(one, none, merge_after) for one in (index.coarse, index.full))
        ratio = float(np.linalg.norm(first[1]) / np.linalg.norm(first[0]))
        return cls(coarse, full, head, index.coarse_size, ratio)

    def add(self, post_id: Ids, content: Vectors) -> None:
        """Find these posts from now on, those that have a text. [n] and their texts [n, E]."""
        has = content.any(axis=1)
        if not has.any():
            return
        post_id, vectors = post_id[has], embed(self.head, content[has])
        none = np.empty((len(post_id), 0), np.int64)
        self.full.add(post_id, vectors, none)
        self.coarse.add(post_id, np.ascontiguousarray(vectors[:, : self.size]), none)

    def remove(self, post_id: Ids) -> None:
        """Find these posts no more."""
        self.coarse.remove(post_id)
        self.full.remove(post_id)


class PrefixPosts:
    """Answers questions by prefix vectors. Any thread may use it."""

    def __init__(
        self,
        vectors: PrefixVectors,
        topic_of: Callable[[Ids], Ids],
        settings: PrefixSettings | None = None,
    ) -> None:
        """Search these.

        Args:
            vectors: of posts.
            topic_of: the first topic of posts [n], 0 = none.
            settings: None = defaults.
        """
        self._settings = settings or PrefixSettings()
        self._topic_of, self._size = topic_of, vectors.size
        self._coarse, self._full = vectors.coarse, vectors.full
        self._fine_over_coarse = vectors.fine_over_coarse

    def near(self, asked: Nearby) -> Near:
        """Answer one question."""
        query, zoom = self._placed(asked)
        if query is None:
            none = np.empty(0, np.float32)
            return Near(np.empty(0, np.int64), none, none, none, zoom, 0, placed=False)
        itself = asked.like if isinstance(asked.like, int) else 0
        num = asked.num_posts + (itself > 0)
        post_id, dims_read = self._found(query, zoom, num)
        post_id = post_id[(post_id > 0) & (post_id != itself)]
        theirs = split(self._full.stored(post_id), self._size)
        coarse, fine = (one @ other for one, other in zip(theirs, query, strict=True))
        a = np.float32(1 - zoom / 2)
        similarity = a * coarse + (1 - a) * fine
        there = np.isfinite(similarity)  # else removed meanwhile
        best = np.argsort(-similarity[there], kind="stable")[: asked.num_posts]
        best = np.flatnonzero(there)[best]
        return Near(post_id[best], similarity[best], coarse[best], fine[best], zoom, dims_read)

    def _found(self, query: Query, zoom: float, num: int) -> tuple[Ids, int]:
        """Posts near `query`, the best `num` and perhaps more; and how much was compared."""
        coarse, fine = query
        num_all, size = len(self._full), len(coarse) + len(fine)
        if zoom == 0:
            return self._coarse.search(coarse[None], num)[0][0], num_all * len(coarse)
        settings = self._settings
        if num_all < settings.two_stages_from or zoom >= settings.whole_from_zoom:
            weighted = np.concatenate([(2 - zoom) * coarse, zoom * fine / self._fine_over_coarse])
            found = self._full.search(weighted[None].astype(np.float32), num)
            return found[0][0], num_all * size
        post_id = self._coarse.search(coarse[None], max(num, settings.rescanned))[0][0]
        return post_id, num_all * len(coarse) + len(post_id) * size

    def _placed(self, asked: Nearby) -> tuple[Query | None, float]:
        """Where the post or viewer stands, None = nowhere; and the zoom to search by."""
        ids = liked(asked.like, self._settings.history_len)
        vectors = self._full.stored(ids)
        has = np.isfinite(vectors[:, 0])
        if not has.any():
            return None, 0.0 if asked.zoom == "auto" else asked.zoom
        coarse, fine = (unit(part.sum(axis=0)) for part in split(vectors[has], self._size))
        query = coarse, fine
        if asked.zoom != "auto":
            return query, asked.zoom
        short = self._settles(coarse) if isinstance(asked.like, int) else self._spreads(ids[has])
        return query, 0.0 if short else 1.0

    def _settles(self, coarse: Vectors) -> bool:
        """Whether the nearest posts by the short prefix agree on the topic."""
        near = self._coarse.search(coarse[None], self._settings.neighbours)[0][0]
        return _largest_share(self._topic_of(near[near > 0])) >= self._settings.agree

    def _spreads(self, post_id: Ids) -> bool:
        """Whether the topics of liked posts are many: exp of their entropy."""
        topics = self._topic_of(post_id)
        share = np.unique(topics[topics > 0], return_counts=True)[1] / max((topics > 0).sum(), 1)
        return bool(len(share)) and np.exp(-(share * np.log(share)).sum()) >= self._settings.spread


def liked(like: History | int, most: int) -> Ids:
    """The post itself, or the newest posts that a viewer liked and did not dislike."""
    if isinstance(like, int):
        return np.array([like])
    return liked_posts(like, _LIKES, _DISLIKES, most)


def _largest_share(topics: Ids) -> float:
    """Of all posts [n], how much is on the commonest topic; 0 = no topics are known."""
    num = np.unique(topics[topics > 0], return_counts=True)[1]
    return float(num.max() / len(topics)) if len(num) else 0.0

"""Vectors that shards hold, each a part of the posts; asked side by side, their answers merged.

What a shard that is dead, late or of another bundle holds is missing from the answer, and the
answer says so. Axes: B queries, D width, n posts asked for, k posts found.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from serve.stores.vectors.index import Ids, Topics, Vectors, VectorsError, best
from serve.stores.viewers.breaker import Breaker, OpenError

_log = logging.getLogger("ray.serve")
# Of whom: the post tower's vectors, the first block of prefix vectors, and those as a whole.
Kind = Literal["posts", "coarse", "full"]


@dataclass(frozen=True)
class Nearest:
    """As `VectorIndex.search`, of the vectors of one kind and bundle."""

    version: str
    kind: Kind
    query: Vectors
    num_posts: int
    topics: Sequence[Topics] | None


@dataclass(frozen=True)
class Stored:
    """Vectors of posts [n], NaN = not here. [n, D]."""

    version: str
    kind: Kind
    post_id: Ids


@dataclass(frozen=True)
class Answer:
    """What one shard says.

    Attributes:
        post_id: of `Nearest` those found, of `Stored` those asked for.
        values: similarities [B, k], or vectors [n, D].
        num_posts: how many it holds in all.
    """

    post_id: Ids
    values: Vectors
    num_posts: int


Question = Nearest | Stored
T = TypeVar("T")
Ask = Callable[[Question], Awaitable[Answer]]
_missing: ContextVar[set[str] | None] = ContextVar("missing", default=None)


@contextmanager
def noting_missing() -> Iterator[set[str]]:
    """Collects the names of shards that do not answer what is asked inside, on this thread."""
    missing: set[str] = set()
    token = _missing.set(missing)
    try:
        yield missing
    finally:
        _missing.reset(token)


class Shards:
    """Asks all shards, from any thread but that of the loop. One that fails rests for a moment."""

    def __init__(
        self,
        asks: Mapping[str, Ask],
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        retry_after_s: float,
    ) -> None:
        """Ask nothing yet.

        Args:
            asks: name of each shard -> how to ask it, called on `loop`.
            loop: runs on another thread.
            timeout_s: for each answer.
            retry_after_s: a shard that failed is not asked for so long, then by one question.
        """
        self._asks, self._loop, self._timeout_s = asks, loop, timeout_s
        self._breakers = {name: Breaker(retry_after_s) for name in asks}

    def ask(self, question: Question) -> dict[str, Answer]:
        """What those say that answer in time; the others are noted, see `noting_missing`.

        Raises:
            VectorsError: none does.
        """
        said = dict(zip(self._asks, self.run(self._all(question)), strict=True))
        answers = {name: answer for name, answer in said.items() if isinstance(answer, Answer)}
        if not answers:
            raise VectorsError(f"no shard of the index answers: {next(iter(said.values()))}")
        noted = _missing.get()
        if noted is not None:
            noted |= said.keys() - answers.keys()
        return answers

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on the loop of the shards, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stats(self) -> dict[str, float]:
        """For metrics: shards, those that failed when last asked, and questions so far."""
        breakers = self._breakers.values()
        return {
            "shards_all": len(breakers),
            "shards_failing": sum(breaker.failing for breaker in breakers),
            "shards_questions": sum(breaker.num_tried for breaker in breakers),
            "shards_refusals": sum(breaker.num_refused for breaker in breakers),
        }

    async def _all(self, question: Question) -> list[Answer | str]:
        return await asyncio.gather(*(self._one(name, question) for name in self._asks))

    async def _one(self, name: str, question: Question) -> Answer | str:
        async def work() -> Answer:
            return await asyncio.wait_for(self._asks[name](question), self._timeout_s)

        try:
            return await self._breakers[name].call(work)
        except OpenError as error:
            return f"{name}: {error}"
        except Exception as error:  # whatever it is, the others answer
            _log.warning("%s does not answer: %r", name, error)
            return f"{name}: {error!r}"


class ShardedVectors:
    """Vectors of one kind as a `VectorIndex`. Shards learn of new posts by themselves.

    Found is what one index over all posts would find, where shards compare all of theirs; of large
    shards HNSW misses some, as it does of one index.
    """

    def __init__(self, shards: Shards, version: str, kind: Kind) -> None:
        """Ask `shards` for those of the bundle `version`."""
        self._shards, self._version, self._kind = shards, version, kind
        self._sizes: dict[str, int] = {}  # posts of each shard, as it last said

    def search(
        self, query: Vectors, num_posts: int, topics: Sequence[Topics] | None = None
    ) -> tuple[Ids, Vectors]:
        """As `VectorIndex.search`, of the shards that answer.

        Raises:
            VectorsError: none does.
        """
        found = self._ask(Nearest(self._version, self._kind, query, num_posts, topics))
        return best(
            np.concatenate([one.post_id for one in found], axis=1),
            np.concatenate([one.values for one in found], axis=1),
            num_posts,
        )

    def stored(self, post_id: Ids) -> Vectors:
        """Vector of each post, NaN = no such post, or in no shard that answers; raises as above."""
        found = self._ask(Stored(self._version, self._kind, post_id))
        vectors = found[0].values.copy()
        for one in found[1:]:
            here = np.isfinite(one.values[:, 0])
            vectors[here] = one.values[here]
        return vectors

    def similarity(self, query: Vectors, post_id: Ids) -> Vectors:
        """As `VectorIndex.similarity`.

        Raises:
            VectorsError: a post is in no shard that answers, and others do not.
        """
        with noting_missing() as missing:
            near = (query * self.stored(post_id)).sum(axis=1)
        if missing and not np.isfinite(near).all():
            raise VectorsError(f"{', '.join(sorted(missing))}: no answer")
        return near

    def __len__(self) -> int:
        return sum(self._sizes.values())

    def add(self, post_id: Ids, vectors: Vectors, topic_ids: Ids) -> None:
        """Nothing: the post's shard does it."""

    def remove(self, post_id: Ids) -> None:
        """Nothing, as above."""

    def close(self) -> None:
        """Nothing is held."""

    def _ask(self, question: Question) -> list[Answer]:
        answers = self._shards.ask(question)
        self._sizes |= {name: answer.num_posts for name, answer in answers.items()}
        return list(answers.values())

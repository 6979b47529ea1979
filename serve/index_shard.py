"""One shard of the index: the vectors of a part of the posts, for the Retriever to ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.models import version
from serve.post_vectors import PostVectors
from serve.stores.vectors import VectorsError, VectorSettings
from serve.stores.vectors.faiss import FaissVectors
from serve.stores.vectors.sharded import Answer, Kind, Nearest, Question
from train.bundle import Bundle


class IndexShard:
    """Answers for one part of the posts, and learns of those told since that fall to it.

    Attributes:
        version: of its bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: VectorSettings | None = None,
        prefix_merge_after: int = 10_000,
    ) -> None:
        """Load the part that `bundle` is of.

        Raises:
            ValueError: no post is in it.
        """
        self.version, self._facts = version(bundle), bundle.facts
        settings = settings or VectorSettings()
        self._held = PostVectors(bundle, bundle.load_two_tower(), settings, prefix_merge_after)

    def answer(self, question: Question) -> Answer:
        """Answer it, whatever version it asks for.

        Raises:
            VectorsError: there are no vectors of that kind.
        """
        index = self._index(question.kind)
        if isinstance(question, Nearest):
            found = index.search(question.query, question.num_posts, question.topics)
            return Answer(*found, len(index))
        return Answer(question.post_id, index.stored(question.post_id), len(index))

    def add_posts(self, posts: pa.Table, content: NDArray[np.float32] | None) -> None:
        """As `new_posts.Knows`."""
        facts = self._facts.with_posts(posts, content)
        self._held.add(posts, content, facts)
        self._facts = facts

    def remove_posts(self, post_id: NDArray[np.int64]) -> None:
        """As `new_posts.Knows`."""
        self._held.remove(post_id)
        self._facts = self._facts.without_posts(post_id)

    def _index(self, kind: Kind) -> FaissVectors:
        prefix = self._held.prefix
        held = self._held.posts if kind == "posts" else prefix and getattr(prefix, kind)
        if not isinstance(held, FaissVectors):
            raise VectorsError(f"no vectors of kind {kind!r} here")
        return held


class Versions:
    """The shard of the newest bundle; and that of the one before, while somebody asks for it.

    The Retriever goes over to another bundle when all shards have: until then it asks for the one
    before, so that vectors of two models never meet.
    """

    def __init__(self, idle_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the one before until nobody has asked for it for so many seconds."""
        self._idle_s, self._clock = idle_s, clock
        self._newest: IndexShard | None = None
        self._before: IndexShard | None = None
        self._asked_at = 0.0  # when it was last asked for the one before
        self._lock = threading.Lock()

    def use(self, shard: IndexShard) -> None:
        """Serve this one too, from now on."""
        with self._lock:
            self._before, self._newest = self._newest, shard
            self._asked_at = self._clock()

    def answer(self, question: Question) -> Answer:
        """As the shard of the question's version; any thread may ask.

        Raises:
            VectorsError: there is none, here and as for `IndexShard.answer`.
        """
        return self._of(question.version).answer(question)

    def _of(self, wanted: str) -> IndexShard:
        with self._lock:
            if self._before is not None and self._before.version == wanted:
                self._asked_at = self._clock()
            elif self._clock() - self._asked_at > self._idle_s:
                self._before = None
            for shard in (self._newest, self._before):
                if shard is not None and shard.version == wanted:
                    return shard
            have = self._newest and self._newest.version
            raise VectorsError(f"this shard serves bundle version {have}, not {wanted}")

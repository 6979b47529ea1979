"""Vectors in memory: the bundle's index, and beside it what has changed since.

    main      the FAISS index of a bundle, and rows of it that no longer count
    delta     posts added since, compared one by one
    merge     both become a new main on a thread of their own, swapped in at once

Axes: N rows of main, n posts of delta, B queries, D width, k posts found.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from serve.stores.lookup import difference, positions, sorted_ids, union
from serve.stores.vectors.index import Ids, Topics, Vectors, best, last_of_each
from train import index as post_index
from train.index import PostIndex

_log = logging.getLogger("ray.serve")
_ROWS_AT_ONCE = 65_536  # of main, compared one by one


@dataclass(frozen=True)
class _TopicRows:
    """Rows of posts by topic, one entry for each topic of each post, sorted by topic. [M]."""

    topic: Ids
    row: Ids

    @classmethod
    def of(cls, topic_ids: Ids) -> _TopicRows:
        """Of posts one a row. [N, T], 0 = none."""
        row, slot = np.nonzero(topic_ids)
        return cls._sorted(topic_ids[row, slot], row)

    @classmethod
    def _sorted(cls, topic: Ids, row: Ids) -> _TopicRows:
        order = np.argsort(topic, kind="stable")
        return cls(topic[order], row[order])

    def on(self, topics: Topics) -> Ids:
        """Rows on one of `topics`, sorted."""
        first = np.searchsorted(self.topic, topics)
        last = np.searchsorted(self.topic, topics, side="right")
        parts = [self.row[a:b] for a, b in zip(first, last, strict=True)]
        return sorted_ids(np.concatenate(parts))

    def joined(self, kept: np.ndarray, other: _TopicRows) -> _TopicRows:
        """These of the rows `kept`, bool [N], closed up, and others behind them."""
        mine = kept[self.row]
        row = np.cumsum(kept) - 1
        return self._sorted(
            np.concatenate([self.topic[mine], other.topic]),
            np.concatenate([row[self.row[mine]], other.row + int(kept.sum())]),
        )


class _Main:
    """An index, its topics, and where each post stands in it."""

    def __init__(self, index: PostIndex, topics: _TopicRows) -> None:
        self.index, self.topics = index, topics
        self._order = np.argsort(index.post_id, kind="stable")
        self._ids = index.post_id[self._order]

    def row_of(self, post_id: Ids) -> Ids:
        """Row of each post, the last one of an id that is there twice; -1 = none."""
        place = np.searchsorted(self._ids, post_id, side="right") - 1
        return np.where(self._ids[place] == post_id, self._order[place], -1)


@dataclass(frozen=True)
class _Delta:
    """Posts beside main, each there once."""

    post_id: Ids
    vectors: Vectors
    topics: tuple[Topics, ...]

    def take(self, rows: np.ndarray) -> _Delta:
        topics = tuple(self.topics[row] for row in rows.tolist())
        return _Delta(self.post_id[rows], self.vectors[rows], topics)

    def without(self, post_id: Ids) -> _Delta:
        there = np.isin(self.post_id, post_id)
        return self.take(np.flatnonzero(~there)) if there.any() else self

    def joined(self, other: _Delta) -> _Delta:
        return _Delta(
            np.concatenate([self.post_id, other.post_id]),
            np.concatenate([self.vectors, other.vectors]),
            self.topics + other.topics,
        )

    def topic_rows(self) -> _TopicRows:
        row = np.repeat(np.arange(len(self.topics)), [len(mine) for mine in self.topics])
        topic = np.array([one for mine in self.topics for one in mine], np.int64)
        return _TopicRows._sorted(topic, row)


@dataclass(frozen=True)
class _State:
    """All of it as of one instant.

    Attributes:
        hidden: rows of main that do not count, sorted.
        shown: one bit for each row of main, 0 = hidden; None = all count.
    """

    main: _Main
    delta: _Delta
    hidden: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    shown: NDArray[np.uint8] | None = None

    def hiding(self, post_id: Ids) -> _State:
        """Without these posts."""
        row = self.main.row_of(post_id)
        state = replace(self, delta=self.delta.without(post_id))
        return state if (row < 0).all() else state._hiding_rows(row[row >= 0])

    def _hiding_rows(self, rows: Ids) -> _State:
        hidden = union(self.hidden, rows)
        shown = np.ones(len(self.main.index.post_id), np.bool_)
        shown[hidden] = False
        return replace(self, hidden=hidden, shown=np.packbits(shown, bitorder="little"))

    def search(self, query: Vectors, num_posts: int) -> tuple[Ids, Vectors]:
        """Posts near each query."""
        row, similarity = self.main.index.nearest(query, num_posts, self.shown)
        post_id = np.where(row >= 0, self.main.index.post_id[row], 0)
        if not len(self.delta.post_id):
            return post_id, similarity
        near = query @ self.delta.vectors.T
        ids = np.broadcast_to(self.delta.post_id, near.shape)
        return best(
            np.concatenate([post_id, ids], axis=1),
            np.concatenate([similarity, near], axis=1),
            num_posts,
        )

    def search_on(self, query: Vectors, num_posts: int, topics: Topics) -> tuple[Ids, Vectors]:
        """Posts on `topics` near each query, each of them compared."""
        found = np.empty((len(query), 0), np.int64), np.empty((len(query), 0), np.float32)
        for post_id, vectors in self._on(topics):
            near = query @ vectors.T
            ids = np.broadcast_to(post_id, near.shape)
            found = best(
                np.concatenate([found[0], ids], axis=1),
                np.concatenate([found[1], near], axis=1),
                num_posts,
            )
        return found

    def _on(self, topics: Topics) -> Iterator[tuple[Ids, Vectors]]:
        """Ids and vectors of posts on `topics`, not too many at a time."""
        rows = difference(self.main.topics.on(topics), self.hidden)
        stored = self.main.index.stored()
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[first : first + _ROWS_AT_ONCE]
            yield self.main.index.post_id[part], stored[part]
        wanted = set(topics)
        new = [row for row, mine in enumerate(self.delta.topics) if not wanted.isdisjoint(mine)]
        yield self.delta.post_id[new], self.delta.vectors[new]

    def vectors_of(self, post_id: Ids) -> Vectors:
        """Vector of each post, NaN = no such post. [n, D]."""
        out = np.full((len(post_id), self.delta.vectors.shape[1]), np.nan, np.float32)
        row = self.main.row_of(post_id)
        here = (row >= 0) & ~positions(self.hidden, row)[1]
        out[here] = self.main.index.stored()[row[here]]
        order = np.argsort(self.delta.post_id)
        place, new = positions(self.delta.post_id[order], post_id)
        out[new] = self.delta.vectors[order[place[new]]]
        return out


class FaissVectors:
    """A `VectorIndex` in this process; it lasts as long as the process does.

    A search with nothing added or removed costs what the bundle's index costs. Results are
    exact beside what HNSW misses of a large bundle.
    """

    def __init__(self, index: PostIndex, topic_ids: Ids, merge_after: int = 10_000) -> None:
        """Begin with the posts of a bundle.

        Args:
            index: at least one post.
            topic_ids: of the posts of `index`, in its order. [N, T], 0 = none.
            merge_after: posts added, or taken out, until they are merged.
        """
        width = index.vectors.d
        nothing = _Delta(np.empty(0, np.int64), np.empty((0, width), np.float32), ())
        main = _Main(index, _TopicRows.of(topic_ids))
        self._state = _State(main, nothing)
        self._nothing, self._merge_after = nothing, merge_after
        self._lock = threading.Lock()  # of all that writes
        self._merging: threading.Thread | None = None
        self._changed: list[Ids] = []  # ids added or removed while merging

    def add(self, post_id: Ids, vectors: Vectors, topic_ids: Ids) -> None:
        """As `VectorIndex.add`."""
        rows = last_of_each(post_id)
        topics = tuple(tuple(t for t in topic_ids[row].tolist() if t) for row in rows)
        new = _Delta(post_id[rows], vectors[rows], topics)
        with self._lock:
            state = self._state.hiding(new.post_id)
            self._set(replace(state, delta=state.delta.joined(new)), new.post_id)

    def remove(self, post_id: Ids) -> None:
        """As `VectorIndex.remove`."""
        with self._lock:
            self._set(self._state.hiding(post_id), post_id)

    def search(
        self, query: Vectors, num_posts: int, topics: Sequence[Topics] | None = None
    ) -> tuple[Ids, Vectors]:
        """As `VectorIndex.search`."""
        state = self._state
        if topics is None or not any(topics):
            return state.search(query, num_posts)
        post_id = np.zeros((len(query), num_posts), np.int64)
        similarity = np.full(post_id.shape, -np.inf, np.float32)
        for wanted in set(topics):
            rows = [row for row, asked in enumerate(topics) if asked == wanted]
            if wanted:
                found = state.search_on(query[rows], num_posts, wanted)
            else:
                found = state.search(query[rows], num_posts)
            width = found[0].shape[1]
            post_id[rows, :width], similarity[rows, :width] = found
        return best(post_id, similarity, num_posts)

    def similarity(self, query: Vectors, post_id: Ids) -> Vectors:
        """As `VectorIndex.similarity`."""
        return (query * self._state.vectors_of(post_id)).sum(axis=1)

    def stored(self, post_id: Ids) -> Vectors:
        """Vector of each post, NaN = no such post. [n] -> [n, D]."""
        return self._state.vectors_of(post_id)

    def __len__(self) -> int:
        state = self._state
        return len(state.main.index.post_id) - len(state.hidden) + len(state.delta.post_id)

    def close(self) -> None:
        """Wait for a merge that is under way."""
        if self._merging is not None:
            self._merging.join()

    def _set(self, state: _State, changed: Ids) -> None:
        """Go on with `state`; called with the lock held."""
        self._state = state
        if self._merging is not None:
            self._changed.append(changed)
        elif max(len(state.delta.post_id), len(state.hidden)) >= self._merge_after:
            self._changed = []
            self._merging = threading.Thread(target=self._merge, args=(state,), daemon=True)
            self._merging.start()

    def _merge(self, before: _State) -> None:
        try:
            merged = self._merged(before)
        except Exception:  # all is found without it; the next change tries again
            _log.exception("the index of posts goes on unmerged")
            merged = None
        with self._lock:
            self._merging = None
            if merged is not None:
                self._state = self._caught_up(merged)

    def _merged(self, state: _State) -> _State:
        """The same posts, all or almost all of them in main."""
        index, delta, hidden = state.main.index, state.delta, state.hidden
        if len(hidden) == len(index.post_id) and not len(delta.post_id):
            return state  # there is no index of nothing
        kept = np.ones(len(index.post_id), np.bool_)
        small = len(kept) + len(delta.post_id) < post_index.EXACT_BELOW
        anew = len(hidden) > 0 and (small or len(hidden) >= self._merge_after)
        if anew:
            kept[hidden] = False
            index = PostIndex.build(
                np.concatenate([index.post_id[kept], delta.post_id]),
                np.concatenate([index.stored()[kept], delta.vectors]),
            )
        else:  # HNSW takes nothing out, and making it anew takes long
            index = index.extended(delta.post_id, delta.vectors)
        topics = state.main.topics.joined(kept, delta.topic_rows())
        merged = _State(_Main(index, topics), self._nothing)
        return merged if anew or not len(hidden) else merged._hiding_rows(hidden)

    def _caught_up(self, merged: _State) -> _State:
        """What changed while merging, done to the merged posts too."""
        if not self._changed:
            return merged
        changed = sorted_ids(np.concatenate(self._changed))
        now = self._state.delta
        later = now.take(np.flatnonzero(np.isin(now.post_id, changed)))
        return replace(merged.hiding(changed), delta=later)

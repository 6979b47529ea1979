"""Which posts belong to one conversation, and who wrote the posts that others point at."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.encoding import expand
from pipelines.feed.services import Hits
from serve.stores.lookup import column, positions
from serve.stores.tiers import with_tier

Ids = NDArray[np.int64]


def authors_of(ids: Ids, post_id: Ids, author_id: Ids) -> Ids:
    """Author of each of `ids` [n] among posts sorted by `post_id` [N]; 0 = unknown. [n]."""
    place, known = positions(post_id, ids)
    return np.where(known, author_id[place], 0)


def conversations(post_id: Ids, reply_to: Ids) -> Ids:
    """First post of each post's chain of replies: that of itself where it is no reply.

    A chain that leaves the table ends at the id that it left by, so replies to one missing
    post share a conversation. Posts whose replies go round in a circle stay by themselves.

    Args:
        post_id: sorted. [N].
        reply_to: the post that each answers, 0 = none. [N].

    Returns:
        int64 [N].
    """
    here = np.arange(len(post_id))
    place, stored = positions(post_id, reply_to)
    up = np.where(stored & (reply_to > 0), place, here)
    # Each round makes every step twice as long, until all have arrived.
    for _ in range(len(post_id).bit_length()):
        up = up[up]
    arrived = ~(stored & (reply_to > 0))[up]
    root = np.where(reply_to[up] > 0, reply_to[up], post_id[up])
    return np.where(arrived, root, post_id)


@dataclass(frozen=True)
class _Answers:
    """Replies [n], sorted by the post that they answer."""

    reply_to: Ids
    post_id: Ids
    popularity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.post_id)

    @classmethod
    def of(cls, reply_to: Ids, post_id: Ids, popularity: NDArray[np.float64]) -> _Answers:
        order = np.argsort(reply_to, kind="stable")
        return cls(reply_to[order], post_id[order], popularity[order])

    def merged(self, other: _Answers) -> _Answers:
        names = ("reply_to", "post_id", "popularity")
        return _Answers.of(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names)
        )

    def without(self, post_id: Ids) -> _Answers:
        kept = ~np.isin(self.post_id, post_id)
        if kept.all():
            return self
        return _Answers(self.reply_to[kept], self.post_id[kept], self.popularity[kept])

    def to(self, post_id: Ids) -> tuple[Ids, NDArray[np.float64]]:
        """Replies to any of some posts, and their popularity."""
        start, end = (np.searchsorted(self.reply_to, post_id, side) for side in ("left", "right"))
        which, nth = expand(end - start)
        at = start[which] + nth
        return self.post_id[at], self.popularity[at]


class Replies:
    """Who answers whom, read downwards. Any thread may call anything at any time."""

    def __init__(self) -> None:
        """Start with no replies."""
        self._tiers: tuple[_Answers, ...] = ()
        self._writing = threading.Lock()

    def add(self, posts: pa.Table) -> None:
        """Add those of `posts` that answer one; a reply that is there already may come again.

        Columns of schema.POSTS, and perhaps `popularity`, without which it is 0.
        """
        reply_to = column(posts, "reply_to_post_id", 0, np.int64)
        replies = reply_to > 0
        popularity = np.zeros(len(reply_to))
        if "popularity" in posts.schema.names:
            popularity = column(posts, "popularity", 0.0)
        ids = column(posts, "post_id", 0, np.int64)
        if replies.any():
            new = _Answers.of(reply_to[replies], ids[replies], popularity[replies])
            with self._writing:
                self._tiers = with_tier(self._tiers, new, _Answers.merged)

    def forget(self, post_id: Ids) -> None:
        """Let go of replies [n]; takes time in proportion to the parts that hold any."""
        with self._writing:
            parts = [tier.without(post_id) for tier in self._tiers]
            self._tiers = tuple(part for part in parts if len(part))

    def below(self, post_id: int, num_posts: int) -> Hits:
        """Replies to a post, and to those, as `Services.conversation` ranks them.

        Whether the post is itself a reply, or known at all, makes no difference. Replies that
        go round in a circle come once.
        """
        level = found = np.array([post_id], np.int64)
        depths = np.zeros(1, np.int64)
        for depth in range(1, num_posts + 1):  # each level has one reply at least
            answers = [tier.to(level) for tier in self._tiers]
            if not answers:
                break
            ids, popularity = (np.concatenate(parts) for parts in zip(*answers, strict=True))
            ids, first = np.unique(ids, return_index=True)
            new = ~np.isin(ids, found)
            ids, popularity = ids[new], popularity[first[new]]
            level = ids[np.argsort(-popularity, kind="stable")]
            found = np.concatenate([found, level])
            depths = np.concatenate([depths, np.full(len(level), depth)])
            if not len(level) or len(found) > num_posts:
                break
        return Hits(found[1 : num_posts + 1], 1 / depths[1 : num_posts + 1])

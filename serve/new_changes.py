"""What models are to be told, in the order in which it came, until they were told.

Axes: n posts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.schema import POSTS

Ids = NDArray[np.int64]
_MANY_CHUNKS = 256  # of a table: many small ones are slow


class Place(NamedTuple):
    """How many posts, and how many removals, came before."""

    posts: int
    removals: int


@dataclass(frozen=True)
class Some:
    """What follows a place.

    Attributes:
        removed: of the bundle, too. [n].
        expired: unless they are the bundle's. [n].
        posts: columns of schema.POSTS, to be known once the others are removed.
        end: the place behind it.
    """

    removed: Ids
    expired: Ids
    posts: pa.Table
    end: Place


class Changes:
    """Posts that came and posts that went. Not for many threads.

    Attributes:
        end: the place behind all of it.
    """

    def __init__(self) -> None:
        """Nothing came yet."""
        self._posts = POSTS.arrow.empty_table()
        self._number = np.empty(0, np.int64)  # how many posts came before each
        self._removals: list[tuple[int, bool]] = []  # post, and whether it expired
        self._first = 0  # removals before those
        self.end = Place(0, 0)

    def num_after(self, at: Place) -> int:
        """Posts and removals behind a place."""
        num = len(self._number) - int(np.searchsorted(self._number, at.posts))
        return num + self.end.removals - at.removals

    def add(self, posts: pa.Table) -> None:
        """Rows of schema.POSTS came."""
        self._posts = pa.concat_tables([self._posts, posts])
        if self._posts["post_id"].num_chunks > _MANY_CHUNKS:
            self._posts = self._posts.combine_chunks()
        end = self.end.posts + len(posts)
        self._number = np.concatenate([self._number, np.arange(self.end.posts, end)])
        self.end = self.end._replace(posts=end)

    def remove(self, post_id: Ids) -> None:
        """Posts [n] were taken away."""
        self._remove(post_id, False)

    def expire(self, post_id: Ids) -> None:
        """Posts [n] are kept no longer."""
        self._remove(post_id, True)

    def keep(self, which: Callable[[pa.Table], NDArray[np.bool_]]) -> None:
        """Of posts only those for which `which` is true; places stay what they are."""
        mask = which(self._posts)
        self._posts, self._number = self._posts.filter(pa.array(mask)), self._number[mask]

    def after(self, at: Place, num_posts: int) -> Some:
        """All removals behind a place, and the first posts."""
        first = int(np.searchsorted(self._number, at.posts))
        posts = self._posts.slice(first, num_posts)
        last = first + len(posts)
        end = int(self._number[last]) if last < len(self._number) else self.end.posts
        removals = np.array(self._removals[at.removals - self._first :], np.int64).reshape(-1, 2)
        expired = removals[:, 1] > 0
        return Some(
            removed=removals[~expired, 0],
            expired=removals[expired, 0],
            posts=posts,
            end=Place(end, self.end.removals),
        )

    def drop(self, before: Place) -> None:
        """Forget what lies before a place."""
        first = int(np.searchsorted(self._number, before.posts))
        self._posts, self._number = self._posts.slice(first), self._number[first:]
        self._removals = self._removals[before.removals - self._first :]
        self._first = before.removals

    def _remove(self, post_id: Ids, expired: bool) -> None:
        self._removals += [(one, expired) for one in post_id.tolist()]
        self.end = self.end._replace(removals=self._first + len(self._removals))

"""Facts about all posts by id: the bundle's, and those that came since. Axes: C posts asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.feed.services import Hits
from pipelines.schema import POSTS
from serve.stores.lookup import difference, positions, union
from serve.stores.post_table import PostTable

Ids = NDArray[np.int64]
Facts = dict[str, NDArray]

_AUTHORS = {
    "reply_to_post_id": "reply_to_author_id",
    "repost_of_post_id": "repost_author_id",
    "quote_of_post_id": "quote_author_id",
}
_FRESH = 4_096  # posts in the table that is made anew with every `add`
_MAX_STEPS = 64  # from table to table along one chain of replies


class PostStore:
    """The bundle's table, which never changes, and at most two of posts that came since.

    Any thread may read at any time; writes wait for each other. A read sees all of a write or
    nothing of it. What came since stays until `forget`: who adds it says how much is kept.

    Attributes:
        bundle: the bundle's table.
    """

    def __init__(self, posts: pa.Table) -> None:
        """Begin with the bundle's posts: as for `PostTable`, at least one row."""
        self.bundle = PostTable(posts)
        self._settled = self._fresh = POSTS.arrow.empty_table()
        self._settled_index: list[PostTable] = []
        # What reads look at: swapped as a whole. Of a post in two tables the last one counts.
        self._state: tuple[Sequence[PostTable], Ids] = ((self.bundle,), np.empty(0, np.int64))
        self._writing = threading.Lock()

    def add(self, posts: pa.Table) -> int:
        """Add the rows of schema.POSTS whose posts are not here yet; returns how many."""
        with self._writing:
            tables, deleted = self._state
            new = posts.take(_first_of_each(posts["post_id"].to_numpy()))
            ids = new["post_id"].to_numpy()
            new = new.filter(~np.any([table.has(ids) for table in tables], axis=0))
            if not len(new):
                return 0
            self._swap(new, deleted)
            return len(new)

    def add_again(self, posts: pa.Table) -> None:
        """Posts that were deleted are known again, by these rows of schema.POSTS."""
        with self._writing:
            ids = posts["post_id"].to_numpy()
            posts = posts.take(_first_of_each(ids))
            self._drop(ids)
            self._swap(posts, difference(self._state[1], ids))

    def forget(self, post_id: Ids) -> None:
        """What came of posts [n] is here no longer."""
        with self._writing:
            self._drop(post_id)
            self._swap(self._fresh[:0], self._state[1])

    def undelete(self, post_id: Ids) -> None:
        """Posts [n] are known if they are here."""
        with self._writing:
            tables, deleted = self._state
            self._state = (tables, difference(deleted, post_id))

    def delete(self, post_id: Ids) -> None:
        """Posts [n] are unknown from now on, whether they have come yet or not; so are reposts."""
        with self._writing:
            tables, deleted = self._state
            self._state = (tables, union(deleted, post_id))

    def facts(self, post_id: Ids) -> Facts:
        """What is known of posts [C]: the columns that `Services.posts` promises."""
        tables, deleted = self._state
        facts = _facts(tables, post_id)
        if len(tables) > 1:
            for pointer, author in _AUTHORS.items():
                abroad = np.flatnonzero((facts[pointer] > 0) & (facts[author] == 0))
                if len(abroad):
                    facts[author][abroad] = _facts(tables, facts[pointer][abroad])["author_id"]
            facts["conversation_id"] = _conversations(tables, post_id, facts["conversation_id"])
        for ids in (post_id, facts["repost_of_post_id"]):
            facts["known"] = facts["known"] & ~positions(deleted, ids)[1]
        return facts

    def created_at_ms(self, post_id: Ids) -> Ids:
        """When each post [C] was published, deleted ones too; ms since 1970, 0 = unknown."""
        tables, _ = self._state
        found = np.zeros(len(post_id), np.int64)
        for table in tables:
            found = np.where(table.has(post_id), table.created_at_ms(post_id), found)
        return found

    def mention(self, post_id: Ids, keywords: tuple[str, ...]) -> NDArray[np.bool_]:
        """Whether the text of each post [C] holds one of `keywords`, as `Words.mention` says."""
        tables, _ = self._state
        found = np.zeros(len(post_id), np.bool_)
        for table in tables:
            found = np.where(table.has(post_id), table.mention(post_id, keywords), found)
        return found

    def has(self, post_id: int) -> bool:
        """Whether the post is here and was not deleted."""
        return bool(self.facts(np.array([post_id]))["known"][0])

    def ids(self) -> Ids:
        """All posts that are here, deleted ones too; sorted."""
        tables, _ = self._state
        return reduce(union, (table.post_id for table in tables))

    def most_liked(self, num_posts: int) -> Hits:
        """The bundle's posts by popularity, best first; equal popularity by post id."""
        return self.bundle.most_liked(num_posts)

    def _swap(self, new: pa.Table, deleted: Ids) -> None:
        """Let reads see `new` rows, and which posts are deleted."""
        self._fresh = pa.concat_tables([self._fresh, new])
        if len(self._fresh) > _FRESH:
            self._settle()
        fresh = [PostTable(self._fresh)] if len(self._fresh) else []
        self._state = ((self.bundle, *self._settled_index, *fresh), deleted)

    def _drop(self, post_id: Ids) -> None:
        """Take out rows that came since; reads see it with the next `_swap`."""
        self._fresh = without(self._fresh, post_id)
        kept = without(self._settled, post_id)
        if len(kept) < len(self._settled):
            self._settled = kept
            self._settled_index = [PostTable(kept)] if len(kept) else []

    def _settle(self) -> None:
        """Index what came lately with what came before, so that it is one table again."""
        self._settled = pa.concat_tables([self._settled, self._fresh]).combine_chunks()
        self._settled_index = [PostTable(self._settled)]
        self._fresh = self._fresh.slice(0, 0)


def without(posts: pa.Table, post_id: Ids) -> pa.Table:
    """The rows of other posts than these."""
    gone = np.isin(posts["post_id"].to_numpy(), post_id)
    return posts.filter(pa.array(~gone)) if gone.any() else posts


def _first_of_each(post_id: Ids) -> Ids:
    """Rows that hold a post for the first time, in order."""
    return np.sort(np.unique(post_id, return_index=True)[1])


def _facts(tables: Sequence[PostTable], post_id: Ids) -> Facts:
    """What the tables say, each of its own posts."""
    facts = tables[0].facts(post_id)
    for table in tables[1:]:
        here = np.flatnonzero(table.has(post_id))
        if len(here):
            for name, values in table.facts(post_id[here]).items():
                facts[name] = _put(facts[name], here, values)
    return facts


def _put(values: NDArray, rows: Ids, new: NDArray) -> NDArray:
    """`values` [C, ...] with those of some rows; the wider of both, zeros at the end."""
    if values.ndim == 2 and values.shape[1] != new.shape[1]:
        width = max(values.shape[1], new.shape[1])
        values, new = (np.pad(v, ((0, 0), (0, width - v.shape[1]))) for v in (values, new))
    values[rows] = new
    return values


def _conversations(tables: Sequence[PostTable], post_id: Ids, conversation_id: Ids) -> Ids:
    """Follow chains of replies that go from one table to another; in a circle a post is alone."""
    at = conversation_id.copy()
    moving = np.flatnonzero(at != post_id)  # the others begin theirs, or are in a circle
    for _ in range(_MAX_STEPS):
        there = _facts(tables, at[moving])
        alone = there["known"] & (there["reply_to_post_id"] > 0)
        alone &= there["conversation_id"] == at[moving]
        at[moving[alone]] = post_id[moving[alone]]
        onward = there["known"] & ~alone & (there["conversation_id"] != at[moving])
        at[moving[onward]] = there["conversation_id"][onward]
        moving = moving[onward]
        if not len(moving):
            return at
    at[moving] = post_id[moving]
    return at

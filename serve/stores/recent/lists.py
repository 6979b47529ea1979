"""The columns under `store.RecentPosts`: posts sorted into lists, and those that came since.

Rows up to `num_sorted` lie author by author, originals before the rest, newest first (equal times:
larger id first), so that a list is a range of rows. Later rows are in order of arrival. What is
marked without being held, such as a post that is deleted before it comes, has a row too: its time
is `NEVER`. Nothing here looks at a clock. Axes: n posts, m authors, L = 2m lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from serve.stores.recent.index import Ids, Mask, Places, RowIndex
from serve.stores.recent.rows import NEVER, Columns, NewPosts

NUM_LISTS = 2  # of an author: originals; replies and reposts
_ROOM = 1024  # rows of room at least


class Held:
    """All rows. They are added and marked in place, and removed only by making a new object.

    One thread writes; others may read meanwhile, without waiting: `num` first, then `columns`,
    which are then complete up to `num`. A reader sees each change done or not done yet.

    Attributes:
        num: rows in use.
        num_sorted: how many of them lie in lists.
        columns: the rows; arrays are longer than `num`.
        places: of the sorted rows' authors, in their order. [m]
        start: first row of each list, two by two in the order of `authors`; [2m + 1].
        head_ms: when the newest post of each list was created, NEVER = there is none. [2m]
        num_dead: of each list; may count too many, never too few. [2m]
    """

    def __init__(self, columns: Columns, num: int, by_id: RowIndex, by_parent: RowIndex) -> None:
        """Take rows sorted as lists, with their indexes."""
        self.num = self.num_sorted = num
        self.columns = columns
        self._by_id, self._by_parent = by_id, by_parent
        author = columns.author_id[:num]
        first = np.flatnonzero(np.diff(author, prepend=-1))
        self._authors = author[first]
        self.places = Places(self._authors)
        self.start = np.full(NUM_LISTS * len(first) + 1, num)
        self.start[:-1:2] = first
        originals = np.concatenate([[0], np.cumsum(columns.parent_id[:num] == 0)])
        self.start[1::2] = first + np.diff(originals[self.start[::2]])
        self.head_ms = np.full(NUM_LISTS * len(first), NEVER)
        some = np.flatnonzero(np.diff(self.start))
        self.head_ms[some] = columns.created_at_ms[self.start[some]]
        dead = self._list_of(np.flatnonzero(columns.dead[:num]))
        self.num_dead = np.bincount(dead, minlength=NUM_LISTS * len(first))

    @classmethod
    def of(cls, values: Mapping[str, NDArray]) -> Held:
        """Rows as `Columns` has them, in any order and with any `parent_row`."""
        none = cls(Columns.empty(), 0, RowIndex.empty(), RowIndex.empty())
        rows = np.arange(len(values["post_id"]))
        orphans = {**values, "parent_row": np.full(len(rows), -1, np.int32)}
        made = none.sorted(Columns.of(orphans, rows), needed=np.ones(len(rows), bool))
        made.columns.parent_row[: made.num] = made.rows(made.columns.parent_id[: made.num])
        return made

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, without what has been indexed since the rows were sorted."""
        columns = self.columns.values(len(self.columns.post_id)).values()
        arrays = (*columns, self._authors, self.start, self.head_ms, self.num_dead)
        indexes = self._by_id.nbytes + self._by_parent.nbytes + self.places.nbytes
        return sum(array.nbytes for array in arrays) + indexes

    def rows(self, post_id: Ids) -> Ids:
        """Row of each post or mark, -1 = there is none. int64 [n]."""
        return self._by_id.first(post_id)

    def add(self, posts: NewPosts, now_ms: int, oldest_ms: int) -> int:
        """Add posts that are not held, the first of each id; returns how many.

        Held is what was created at `oldest_ms` or later. A post takes over the mark of its id,
        which lasts as long as the post.
        """
        row, c = self.rows(posts.post_id), self.columns
        wanted = np.flatnonzero((row < 0) | (c.created_at_ms[row] < oldest_ms))
        new = wanted[np.sort(np.unique(posts.post_id[wanted], return_index=True)[1])]
        posts, row = posts.take(new), row[new]
        marked = (row >= 0) & (c.marked_until_ms[row] >= now_ms)
        expires_ms = posts.created_at_ms + (now_ms - oldest_ms)
        marks = {
            "dead": marked & c.dead[row],
            "marked_at_ms": np.where(marked, c.marked_at_ms[row], 0),
            "marked_until_ms": np.where(
                marked, np.maximum(c.marked_until_ms[row], expires_ms), NEVER
            ),
        }
        self._append(posts.columns() | marks)
        self.columns.marked_until_ms[row[row >= 0]] = NEVER
        return len(posts)

    def mark(self, post_id: Ids, at_ms: Ids, dead: bool, now_ms: int, until_ms: int) -> None:
        """Delete or restore posts [n], no id twice, where nothing later has been said of them.

        Of equal times a deletion is the later. What is not there is marked all the same.
        """
        new = post_id[self.rows(post_id) < 0]
        never = np.full(len(new), NEVER)
        self._append({"post_id": new, "created_at_ms": never, "marked_until_ms": never})
        row, c = self.rows(post_id), self.columns
        before_ms = np.where(c.marked_until_ms[row] >= now_ms, c.marked_at_ms[row], NEVER)
        later = (at_ms > before_ms) | ((at_ms == before_ms) & (dead | ~c.dead[row]))
        row, at_ms = row[later], at_ms[later]
        if dead:
            listed = self._list_of(row[(row < self.num_sorted) & ~c.dead[row]])
            np.add.at(self.num_dead, listed, 1)
        c.marked_until_ms[row] = until_ms
        c.marked_at_ms[row] = at_ms
        c.dead[row] = dead

    def frozen(self) -> Columns:
        """The rows as they are now, whatever is written later."""
        values = self.columns.values(self.num)
        changing = ("dead", "marked_at_ms", "marked_until_ms", "parent_row")
        return Columns(**values | {name: values[name].copy() for name in changing})

    def sorted(self, columns: Columns, needed: Mask) -> Held:
        """The `needed` of frozen rows, all in lists.

        Looks only at what no write changes, so that writes may go on meanwhile.
        """
        c, num_old = columns, self.num_sorted
        late = num_old + np.lexsort(
            (
                -c.post_id[num_old:],
                -c.created_at_ms[num_old:],
                c.parent_id[num_old:] > 0,
                c.author_id[num_old:],
            )
        )
        order = np.insert(np.arange(num_old), self._place(c, late), late)
        order = order[needed[order]]
        row_now = np.full(len(needed), -1, np.int32)
        row_now[order] = np.arange(len(order), dtype=np.int32)
        made = Columns.of(c.values(len(needed)), order, room=_ROOM + len(order) // 64)
        parent_row = made.parent_row[: len(order)]
        parent_row[:] = np.where(parent_row >= 0, row_now[parent_row], -1)
        by_id = self._by_id.moved(row_now, c.post_id, late)
        by_parent = self._by_parent.moved(row_now, c.parent_id, late[c.parent_id[late] > 0])
        return Held(made, len(order), by_id, by_parent)

    def _append(self, values: Mapping[str, NDArray]) -> None:
        """Add rows; columns that are not given are 0. Then all parents are known by row."""
        num = len(values["post_id"])
        span = slice(self.num, self.num + num)
        if span.stop > len(self.columns.post_id):
            room = num + _ROOM + self.num // 8
            self.columns = Columns.of(self.columns.values(self.num), np.arange(self.num), room)
        for field in fields(Columns):
            getattr(self.columns, field.name)[span] = values.get(field.name, 0)
        rows = np.arange(span.start, span.stop)
        self._by_id.add(values["post_id"], rows)
        parent_id, parent_row = self.columns.parent_id[span], self.columns.parent_row
        parent_row[span] = self.rows(parent_id)
        self.num = span.stop  # from here readers see them
        which, children = self._by_parent.all(values["post_id"])
        parent_row[children] = rows[which]
        self._by_parent.add(parent_id[parent_id > 0], rows[parent_id > 0])

    def _list_of(self, rows: NDArray) -> NDArray:
        """The list that each sorted row is in."""
        return np.searchsorted(self.start, rows, side="right") - 1

    def _place(self, columns: Columns, late: NDArray) -> NDArray:
        """The sorted row before which each late row belongs."""
        author, created_at_ms = columns.author_id[late], columns.created_at_ms[late]
        place = np.searchsorted(self._authors, author)
        known = np.append(self._authors, -1)[place] == author
        lists = NUM_LISTS * place + (known & (columns.parent_id[late] > 0))
        begin = self.start[lists]
        length = np.where(known, self.start[np.minimum(lists + 1, len(self.start) - 1)] - begin, 0)
        return begin + _num_newer(columns, begin, length, created_at_ms, columns.post_id[late])


def _num_newer(
    columns: Columns, begin: NDArray, length: NDArray, at_ms: NDArray, post_id: NDArray
) -> NDArray:
    """How many rows of each list [L] come before a post of its own.

    Args:
        columns: the rows.
        begin: first row of each list; newest first from there.
        length: rows of each list.
        at_ms: when the post was created; of equal times the larger id comes first.
        post_id: its id.
    """
    low, high = np.zeros_like(length), length.copy()
    while np.any(low < high):
        middle = (low + high) // 2
        created_at_ms = np.take(columns.created_at_ms, begin + middle, mode="clip")
        larger_id = np.take(columns.post_id, begin + middle, mode="clip") > post_id
        newer = (created_at_ms > at_ms) | ((created_at_ms == at_ms) & larger_id)
        newer &= low < high
        low, high = np.where(newer, middle + 1, low), np.where(newer, high, middle)
    return low

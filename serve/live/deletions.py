"""Which posts are deleted, and since when."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.stores.lookup import positions

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
SCHEMA = pa.schema(
    [
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("at_ms", pa.int64(), nullable=False),
        pa.field("is_back", pa.bool_(), nullable=False),
    ]
)


class Deletions:
    """The last deletion of each post, kept too of those that were published again.

    A deletion hides whatever was published before it was told of, by whatever clock; a publication
    told of later brings the post back if it is the later one by its time, too. So a deletion or a
    publication that comes again changes nothing. 17 bytes each; of more than `max_kept` the oldest
    go, a twentieth at a time: posts of these that are still somewhere become visible again.

    Attributes:
        num_let_go: deletions that were forgotten.
    """

    def __init__(self, max_kept: int = 1_000_000) -> None:
        """Nothing is deleted."""
        self._max_kept = max_kept
        self._id, self._at_ms = np.empty(0, np.int64), np.empty(0, np.int64)
        self._is_back = np.empty(0, np.bool_)
        self.num_let_go = 0

    def __len__(self) -> int:
        return len(self._id)

    @property
    def hidden(self) -> Ids:
        """Posts that are deleted now. Sorted."""
        return self._id[~self._is_back]

    @property
    def back(self) -> Ids:
        """Posts that were deleted, and are hidden no longer. Sorted."""
        return self._id[self._is_back]

    def add(self, post_id: Ids, at_ms: Ids, created_at_ms: Ids) -> tuple[Ids, Ids]:
        """Posts [n] were deleted; returns those that are hidden now, and since when. [m], [m].

        Args:
            post_id: any may be there twice.
            at_ms: when.
            created_at_ms: of the post as it is known now, 0 = unknown: by another clock it may be
                later than its deletion, which then counts as of that instant.
        """
        order = np.lexsort((at_ms, post_id))
        last = order[np.append(np.diff(post_id[order]) > 0, True)[: len(order)]]
        post_id, at_ms, created_at_ms = post_id[last], at_ms[last], created_at_ms[last]
        place, known = positions(self._id, post_id)
        told = ~known
        told[known] = at_ms[known] > self._at_ms[place[known]]
        at_ms = np.maximum(at_ms, created_at_ms)
        old, new = np.flatnonzero(told & known), np.flatnonzero(~known)
        self._at_ms[place[old]] = at_ms[old]
        self._is_back[place[old]] = False
        into = np.searchsorted(self._id, post_id[new])
        self._at_ms = np.insert(self._at_ms, into, at_ms[new])
        self._is_back = np.insert(self._is_back, into, False)
        self._id = np.insert(self._id, into, post_id[new])
        hidden = self.are_hidden(post_id)
        post_id = post_id[hidden]
        return post_id, self._at_ms[positions(self._id, post_id)[0]]

    def brought_back(self, post_id: Ids, created_at_ms: Ids) -> Mask:
        """Which posts [n], published now, are hidden and would be so no longer."""
        place, known = positions(self._id, post_id)
        found = known.copy()
        at = place[known]
        found[known] = ~self._is_back[at] & (created_at_ms[known] > self._at_ms[at])
        return found

    def are_back(self, post_id: Ids) -> Mask:
        """Which posts [n] were deleted, and are hidden no longer."""
        place, found = positions(self._id, post_id)
        found[found] = self._is_back[place[found]]
        return found

    def are_hidden(self, post_id: Ids) -> Mask:
        """Which posts [n] are deleted now."""
        place, found = positions(self._id, post_id)
        found[found] = ~self._is_back[place[found]]
        return found

    def bring_back(self, post_id: Ids) -> None:
        """Posts [n], all known here, are hidden no longer."""
        self._is_back[positions(self._id, post_id)[0]] = True

    def hide(self, post_id: Ids) -> None:
        """Posts [n], all known here, are hidden again."""
        self._is_back[positions(self._id, post_id)[0]] = False

    def let_go(self) -> tuple[Ids, Ids]:
        """Forget the oldest if they are too many; returns which, and which of them were hidden."""
        num = len(self) - self._max_kept
        if num <= 0:
            return self._id[:0], self._id[:0]
        num += self._max_kept // 20
        kept = np.ones(len(self), np.bool_)
        kept[np.argsort(self._at_ms, kind="stable")[:num]] = False
        gone, hidden = self._id[~kept], self._id[~kept & ~self._is_back]
        self._id, self._at_ms = self._id[kept], self._at_ms[kept]
        self._is_back = self._is_back[kept]
        self.num_let_go += num
        return gone, hidden

    def table(self) -> pa.Table:
        """All that is known: SCHEMA."""
        columns = (self._id, self._at_ms, self._is_back)
        return pa.Table.from_arrays([pa.array(c.copy()) for c in columns], schema=SCHEMA)

    def restore(self, table: pa.Table) -> None:
        """Know what `table` said, and that alone."""
        columns = (table[name].to_numpy(zero_copy_only=False).copy() for name in SCHEMA.names)
        self._id, self._at_ms, self._is_back = columns

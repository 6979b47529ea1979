"""Whom viewers followed, blocked and muted while the feed was served, in this process's memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.stores.lookup import positions

FOLLOW, BLOCK, MUTE = "follow_author", "block_author", "mute_author"
_RELATIONS = pa.array([FOLLOW, BLOCK, MUTE])
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("at_ms", pa.int64(), nullable=False),
        pa.field("author_id", pa.int64(), nullable=False),  # of the post, 0 = unknown
    ]
)
_Ids = NDArray[np.int64]
# Action and post -> when it was first done, and the post's author.
_Acts = dict[tuple[str, int], tuple[int, int]]


class Relations:
    """What viewers did about authors.

    Apart from the stores of viewers and no service, since a block protects: it must hold while
    such a store is down, and must not be pushed out by a few hundred likes. Nothing takes a
    relation back: there is no action that does. About 300 bytes each; of more than `max_kept`
    the oldest go, a twentieth at a time, all follows before any block.

    Attributes:
        num_let_go: relations that were forgotten.
    """

    def __init__(self, max_kept: int = 1_000_000) -> None:
        """Nobody did anything yet."""
        self._max_kept = max_kept
        self._of: dict[int, _Acts] = {}
        self._blockers: dict[int, dict[int, int]] = {}  # author -> who blocked them, and when
        self._no_author: dict[int, set[int]] = {}  # post of unknown author -> who did something
        self._num = 0
        self.num_let_go = 0

    def __len__(self) -> int:
        return self._num

    def apply(self, engagements: pa.Table, author_id: _Ids | None = None) -> None:
        """Take note of rows of schema.ENGAGEMENTS; the feed may read meanwhile.

        Args:
            engagements: [n].
            author_id: who wrote the posts, 0 = unknown, None = of all. [n].
        """
        if author_id is None:
            author_id = np.zeros(len(engagements), np.int64)
        names = SCHEMA.names[:-1]
        rows = engagements.select(names).append_column("author_id", pa.array(author_id))
        rows = rows.filter(pc.is_in(rows["action"], _RELATIONS))
        new: dict[int, _Acts] = {}
        columns = (rows[name].to_pylist() for name in SCHEMA.names)
        for user_id, action, post_id, at_ms, author in zip(*columns, strict=True):
            acts = new.setdefault(user_id, dict(self._of.get(user_id, {})))
            first_ms, known = acts.get((action, post_id), (at_ms, 0))
            acts[action, post_id] = min(at_ms, first_ms), author or known
        for user_id, acts in new.items():  # whole viewers at a time, so readers meet no half of one
            self._num += len(acts) - len(self._of.get(user_id, ()))
            self._of[user_id] = acts
            self._index(user_id, acts)
        self._let_go()

    def learn(self, post_id: _Ids, author_id: _Ids) -> None:
        """Who wrote posts [n], which may be those of relations; 0 = unknown."""
        wanted = np.sort(np.fromiter(self._no_author, np.int64, len(self._no_author)))
        new = positions(wanted, post_id)[1] & (author_id > 0)
        for post, author in zip(post_id[new].tolist(), author_id[new].tolist(), strict=True):
            for user_id in self._no_author.pop(post, ()):
                acts = {
                    act: (at_ms, author if act[1] == post else known)
                    for act, (at_ms, known) in self._of.get(user_id, {}).items()
                }
                self._of[user_id] = acts
                self._index(user_id, acts)

    def posts(
        self, user_id: int, before_ms: int | None = None
    ) -> tuple[NDArray[np.str_], _Ids, _Ids]:
        """What the viewer did to which posts' authors: actions, posts, authors. [n] each.

        Args:
            user_id: the viewer.
            before_ms: only what was done before; None = everything, also what a client's clock
                puts into the future.
        """
        done = [
            (action, post_id, author_id)
            for (action, post_id), (at_ms, author_id) in self._of.get(user_id, {}).items()
            if before_ms is None or at_ms < before_ms
        ]
        action, post_id, author_id = zip(*done, strict=True) if done else ((), (), ())
        return np.array(action, np.str_), np.array(post_id, np.int64), np.array(author_id, np.int64)

    def blocked_by(self, user_id: int, before_ms: int | None = None) -> _Ids:
        """Who blocked the viewer, as an author; `before_ms` as above. Sorted. [n]."""
        blockers = self._blockers.get(user_id, {}).copy()
        found = [who for who, at_ms in blockers.items() if before_ms is None or at_ms < before_ms]
        return np.array(sorted(found), np.int64)

    def table(self) -> pa.Table:
        """All that is known: SCHEMA."""
        columns = zip(*self._rows(), strict=True) if self._num else [[] for _ in SCHEMA.names]
        return pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )

    def frozen(self) -> Relations:
        """The same, whatever is told later."""
        same = Relations(self._max_kept)
        same._of, same._num = dict(self._of), self._num  # acts are replaced, never changed
        return same

    def restore(self, table: pa.Table) -> None:
        """Know what `table` said, and that alone."""
        made = Relations(self._max_kept)
        made.apply(table.drop_columns("author_id"), table["author_id"].to_numpy())
        self._blockers, self._no_author = made._blockers, made._no_author
        self._of, self._num = made._of, made._num

    def _rows(self) -> Iterator[tuple[int, str, int, int, int]]:
        for user_id, acts in self._of.items():
            for (action, post_id), (at_ms, author_id) in acts.items():
                yield user_id, action, post_id, at_ms, author_id

    def _index(self, user_id: int, acts: _Acts) -> None:
        for (action, post_id), (at_ms, author_id) in acts.items():
            if not author_id:
                self._no_author.setdefault(post_id, set()).add(user_id)
            elif action == BLOCK:
                blockers = self._blockers.setdefault(author_id, {})
                blockers[user_id] = min(at_ms, blockers.get(user_id, at_ms))

    def _let_go(self) -> None:
        if self._num <= self._max_kept:
            return
        num = self._num - self._max_kept + self._max_kept // 20
        table, self.num_let_go = self.table(), self.num_let_go + num
        order = np.lexsort((table["at_ms"].to_numpy(), pc.not_equal(table["action"], FOLLOW)))
        self.restore(table.take(np.sort(order[num:])))

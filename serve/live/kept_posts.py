"""Which posts are kept beside a bundle, which version of each, and which are deleted.

Axes: n posts given, N posts kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.schema import POSTS
from serve.live.deletions import Deletions
from serve.stores.lookup import column, difference, positions, sorted_ids
from serve.stores.posts import without

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
_AGAIN = "again"
SCHEMA = POSTS.arrow.append(pa.field(_AGAIN, pa.bool_(), nullable=False))
_SHARE = 20  # posts are let go of once they are more than 1 in so many


@dataclass(frozen=True)
class Told:
    """Posts that are to be found from now on; columns of schema.POSTS, none twice.

    Attributes:
        posts: [n].
        again: which of them take the place of what was said of them before. [n].
    """

    posts: pa.Table
    again: Mask

    @property
    def again_id(self) -> Ids:
        """Those that do."""
        return self.posts["post_id"].to_numpy()[self.again]


@dataclass(frozen=True)
class LetGo:
    """What is kept no longer.

    Attributes:
        posts: to be found as a bundle has them, if it does. [n].
        hidden: of these, those that a bundle has only as they were before their deletion. [m].
        undeleted: posts whose deletion was forgotten. [k].
    """

    posts: Ids
    hidden: Ids
    undeleted: Ids


class KeptPosts:
    """Posts that were told of since a bundle was made, in the order in which they came.

    Of each post one version is kept: the first that came, until the post is deleted and published
    anew, later than it was deleted; then that. So what comes again changes nothing. Not for many
    threads: whoever has it sees to that.

    Attributes:
        deletions: of posts of any origin. One that is back is kept here in its newest version.
        num_let_go: posts that were forgotten.
    """

    def __init__(self, max_posts: int, max_age_s: float, max_deletions: int) -> None:
        """Nothing is known.

        Args:
            max_posts: of more the first to come go, a twentieth at a time.
            max_age_s: behind the newest; the first to come go likewise when they are older.
            max_deletions: as `Deletions` takes it.
        """
        self._max_posts, self._max_age_ms = max_posts, 1000 * max_age_s
        self.deletions = Deletions(max_deletions)
        self.num_let_go = 0
        self._keep(SCHEMA.empty_table())

    def __len__(self) -> int:
        return len(self._id)

    def judge(self, posts: pa.Table) -> Told:
        """Which rows of schema.POSTS say something new; `take` makes it known.

        As if they came one by one: of a post that is here twice the first that counts.
        """
        post_id, created_at_ms = _ids_and_times(posts)
        again = self.deletions.brought_back(post_id, created_at_ms)
        new = again | ~positions(self._id, post_id)[1]
        rows = np.flatnonzero(new)
        order = np.lexsort((rows, ~again[rows], post_id[rows]))  # what brings it back, then order
        rows = rows[order]
        first = np.append(True, np.diff(post_id[rows]) > 0)[: len(rows)]
        rows = np.sort(rows[first])
        return Told(posts.select(POSTS.arrow.names).take(rows), again[rows])

    def take(self, told: Told) -> None:
        """Keep what `judge` said last."""
        if not len(told.posts):
            return
        self._drop(told.again_id)
        self.deletions.bring_back(told.again_id)
        self._tables.append(told.posts.append_column(SCHEMA.field(_AGAIN), pa.array(told.again)))
        # Of tables that halve in size there are few, and no row is copied often.
        while len(self._tables) > 1 and len(self._tables[-2]) < 2 * len(self._tables[-1]):
            last = self._tables.pop()
            self._tables[-1] = pa.concat_tables([self._tables[-1], last]).combine_chunks()
        self._index(told.posts)

    def delete(self, post_id: Ids, at_ms: Ids, created_at_ms: Ids) -> tuple[Ids, Ids]:
        """As `Deletions.add`; what is kept of posts is known here."""
        place, known = positions(self._id, post_id)
        created_at_ms = created_at_ms.copy()
        kept_ms = self._created_at_ms[place[known]]
        created_at_ms[known] = np.maximum(created_at_ms[known], kept_ms)
        return self.deletions.add(post_id, at_ms, created_at_ms)

    def counts(self, posts: pa.Table) -> Mask:
        """Which of rows that were told of once are found now, and in this version. [n]."""
        post_id, created_at_ms = _ids_and_times(posts)
        place, known = positions(self._id, post_id)
        known[known] = self._created_at_ms[place[known]] == created_at_ms[known]
        return known & ~self.deletions.are_hidden(post_id)

    def over(self, post_id: Ids, created_at_ms: Ids) -> tuple[Told, Ids]:
        """All that is kept beside a bundle of these posts, and which posts are deleted.

        A bundle that has a post as it was published after its deletion has the newest version.

        Args:
            post_id: the bundle's. [n].
            created_at_ms: as the bundle has them, 0 = unknown. [n].
        """
        posts, again = self.table().drop_columns(_AGAIN), self._again()
        order = np.argsort(post_id, kind="stable")
        ids, created_at_ms = post_id[order], created_at_ms[order]
        kept_id, kept_ms = _ids_and_times(posts)
        place, known = positions(ids, kept_id)
        again[known] &= created_at_ms[place[known]] < kept_ms[known]
        newer = self.deletions.brought_back(ids, created_at_ms)
        return Told(posts, again), difference(self.deletions.hidden, ids[newer])

    def let_go(self, now_ms: int) -> LetGo | None:
        """Forget the oldest posts and deletions if they are too many; None = they are not.

        Args:
            now_ms: what time it is; a post from after that is as old as one from now.
        """
        num = self._num_too_many(now_ms)
        gone = hidden = self._id[:0]
        if num:
            rows = self.table().slice(0, num)
            gone = sorted_ids(rows["post_id"].to_numpy())
            hidden = gone[self.deletions.are_back(gone)]
            self.deletions.hide(hidden)
            self._drop(gone)
            self.num_let_go += num
        undeleted, were_hidden = self.deletions.let_go()
        self._drop(were_hidden)
        if not num and not len(undeleted):
            return None
        return LetGo(np.concatenate([gone, were_hidden]), hidden, undeleted)

    def table(self) -> pa.Table:
        """All that is kept, in order: SCHEMA."""
        return pa.concat_tables([SCHEMA.empty_table(), *self._tables])

    def restore(self, posts: pa.Table | None, deletions: pa.Table) -> None:
        """Know what these said, and that alone.

        Without the posts, those that were published again are hidden until they are told of again:
        what comes first may be the version that was deleted.
        """
        self.deletions.restore(deletions)
        self._keep(SCHEMA.empty_table() if posts is None else posts)
        back = self.deletions.back
        self.deletions.hide(back[~positions(self._id, back)[1]])

    def _keep(self, posts: pa.Table) -> None:
        self._tables = [posts] if len(posts) else []
        self._id, self._created_at_ms = np.empty(0, np.int64), np.empty(0, np.int64)
        self._index(posts)

    def _index(self, posts: pa.Table) -> None:
        post_id, created_at_ms = _ids_and_times(posts)
        order = np.argsort(post_id)
        at = np.searchsorted(self._id, post_id[order])
        self._created_at_ms = np.insert(self._created_at_ms, at, created_at_ms[order])
        self._id = np.insert(self._id, at, post_id[order])

    def _drop(self, post_id: Ids) -> None:
        """Forget posts [n], whether they are here or not."""
        place, known = positions(self._id, post_id)
        if not known.any():
            return
        self._tables = [left for table in self._tables if len(left := without(table, post_id))]
        self._id = np.delete(self._id, place[known])
        self._created_at_ms = np.delete(self._created_at_ms, place[known])

    def _again(self) -> Mask:
        flags = [table[_AGAIN].to_numpy() for table in self._tables]
        return np.concatenate([np.empty(0, np.bool_), *flags])

    def _num_too_many(self, now_ms: int) -> int:
        """How many of the first are to go."""
        newest_ms = int(np.minimum(self._created_at_ms, now_ms).max(initial=0))
        num = max(self._num_older(newest_ms - self._max_age_ms), len(self) - self._max_posts)
        return num if num * _SHARE > len(self) else 0

    def _num_older(self, than_ms: float) -> int:
        """How many older ones came before all others; of unknown age none is."""
        num = 0
        for table in self._tables:
            _, created_at_ms = _ids_and_times(table)
            young = (created_at_ms == 0) | (created_at_ms >= than_ms)
            if young.any():
                return num + int(np.argmax(young))
            num += len(table)
        return num


def _ids_and_times(posts: pa.Table) -> tuple[Ids, Ids]:
    post_id, created_at_ms = (
        column(posts, name, 0, np.int64) for name in ("post_id", "created_at_ms")
    )
    return post_id, created_at_ms

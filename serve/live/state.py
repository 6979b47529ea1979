"""What a replica keeps in memory of what the journal says; it outlives bundles."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from configs import Config
from serve.live.counts import LiveCounts
from serve.live.deletions import Deletions
from serve.live.messages import Happened
from serve.live.relations import Relations
from serve.stores.lookup import column
from serve.stores.posts import PostStore, without
from serve.stores.recent import RecentPosts, posts_of

_log = logging.getLogger(__name__)
Ids = NDArray[np.int64]
_FORGET_SHARE = 20  # posts are let go of once they are more than 1 in so many


class StateSettings(Config):
    """How much is kept of what a bundle does not know; of more the oldest go."""

    max_posts: PositiveInt = 1_000_000  # new ones
    max_age_s: PositiveFloat = 1_209_600.0  # of new ones, behind the newest
    max_deletions: PositiveInt = 1_000_000  # 17 bytes each
    max_relations: PositiveInt = 1_000_000  # follows, blocks and mutes, about 300 bytes each


class Finds(Protocol):
    """What finds new posts."""

    def add(self, posts: pa.Table) -> object:
        """Find rows of schema.POSTS from now on; some may be there already."""

    def forget(self, post_id: Ids) -> None:
        """Find posts [n] no longer."""


@dataclass(frozen=True)
class Frozen:
    """A `LiveState` at one moment.

    Attributes:
        tables: by name: posts, deletions, relations, counts.
        recent: writes recent posts to a file, for `RecentPosts.load`.
        counted_since_ms: from when on `counts` has everything.
        newest_ms: as there.
    """

    tables: dict[str, pa.Table]
    recent: Callable[[IO[bytes]], None]
    counted_since_ms: int
    newest_ms: int


class LiveState:
    """A view of the journal: new and deleted posts, recent posts by author, counts, relations.

    A post that was deleted comes back once it is published anew, as it then is, later than it was
    deleted; among recent posts it stands where it stood. What comes again changes nothing, but for
    counts: the follower of the journal leaves those out.

    Attributes:
        recent: posts of the last days.
        counts: of what was done since the bundle was made.
        relations: whom viewers followed, blocked and muted since.
        deletions: posts that were taken away.
        newest_ms: of what happened, the latest; 0 = nothing did. What is from after the present,
            as clocks have it, does not count.
        newest_s: when that became known; seconds of time.monotonic.
    """

    def __init__(
        self,
        recent: RecentPosts,
        now_ms: Callable[[], int],
        settings: StateSettings | None = None,
    ) -> None:
        """Know nothing yet.

        Args:
            recent: where posts go by author.
            now_ms: what time it is; ms since 1970.
            settings: None = defaults.
        """
        self._settings = settings or StateSettings()
        self.recent = recent
        self.counts = LiveCounts()
        self.relations = Relations(self._settings.max_relations)
        self.deletions = Deletions(self._settings.max_deletions)
        self._now_ms = now_ms
        self._posts: list[pa.Table] = []  # in the order in which they came, none twice
        self._num_let_go = 0
        # Stores that new posts go to: that of the bundle in use, then one that is being made.
        self._fed: list[tuple[PostStore, list[Finds]]] = []
        self.newest_ms, self.newest_s = 0, time.monotonic()
        self._changing = threading.Lock()  # what is kept, and the store that shows it

    def over(self, posts: pa.Table, as_of_ms: int) -> PostStore:
        """A store of a bundle's `posts`, to which what is kept and what comes is added.

        The store in use goes on as well, until `adopt` says that the new one is.

        Args:
            posts: as for `PostStore`.
            as_of_ms: the newest event that the bundle knows.
        """
        store = PostStore(posts, self._settings.max_posts)
        self._insert(store, posts, as_of_ms)
        with self._changing:
            for kept in self._posts:
                back = self.deletions.are_back(kept["post_id"].to_numpy())
                _show(store, [], kept, back)
            store.delete(self.deletions.hidden)
            self._fed = [*self._fed[:1], (store, [])]
        return store

    def tell(self, store: PostStore, finds: Finds) -> None:
        """Tell `finds` what `store` is told: of all posts that are kept, then as they come.

        It may be told of a post twice.
        """
        with self._changing:
            for kept in self._posts:
                post_id = kept["post_id"].to_numpy()
                finds.forget(post_id[self.deletions.are_back(post_id)])
                finds.add(kept)
            for fed, all_finds in self._fed:
                if fed is store:
                    all_finds.append(finds)

    def adopt(self, store: PostStore, as_of_ms: int) -> None:
        """From now on feed the store of the bundle in use alone, and count what it does not."""
        with self._changing:
            self._fed = [one for one in self._fed if one[0] is store]
        self.counts.forget(as_of_ms)

    def apply(self, happened: Happened) -> None:
        """As `messages.View` says.

        Raises:
            RuntimeError: there was no `over` yet.
        """
        if not self._fed:
            raise RuntimeError("no bundle is loaded yet")
        self._note_times(happened)
        now_ms = self._now_ms()
        posts, store = happened.posts, self._fed[-1][0]
        post_id, created_at_ms = (
            column(posts, n, 0, np.int64) for n in ("post_id", "created_at_ms")
        )
        with self._changing:
            again = self.deletions.brought_back(post_id, created_at_ms)
            if again.any():
                self._posts = [without(kept, post_id[again]) for kept in self._posts]
            if len(posts):
                self._posts.append(posts)
            for fed, finds in self._fed:
                _show(fed, finds, posts, again)
            self.deletions.bring_back(post_id[again])
        self._insert(store, posts, now_ms)
        self.recent.restore(post_id[again], created_at_ms[again], now_ms)
        self._delete(happened.deletions, store, now_ms)
        self._let_go()
        facts = store.facts(happened.engagements["post_id"].to_numpy())
        self.relations.apply(happened.engagements, facts["author_id"])
        self.relations.learn(post_id, column(posts, "author_id", 0, np.int64))
        self.counts.add(happened.engagements)  # last: what raises above comes again

    def stats(self) -> dict[str, float]:
        """Sizes, and what was let go since the start, by name."""
        with self._changing:
            num_posts = sum(map(len, self._posts))
        return {
            "new_posts": num_posts,
            "deletions": len(self.deletions),
            "relations": len(self.relations),
            "new_posts_let_go": self._num_let_go,
            "deletions_let_go": self.deletions.num_let_go,
            "relations_let_go": self.relations.num_let_go,
        }

    def freeze(self) -> Frozen:
        """All that is kept, as it is now; for the one thread that calls `apply`."""
        with self._changing:
            posts = pa.concat_tables(self._posts) if self._posts else None
            deletions = self.deletions.table()
        tables = {"deletions": deletions, "counts": self.counts.table()}
        if posts is not None:
            tables["posts"] = posts
        tables["relations"] = self.relations.table()
        newest_ms, since_ms = self.newest_ms, self.counts.since_ms
        return Frozen(tables, self.recent.freeze(), since_ms, newest_ms)

    def restore(self, frozen: Frozen, recent: RecentPosts, as_of_ms: int) -> bool:
        """Know what `frozen` says, before the first `over`; whether counts are all known, too.

        They are not if the bundle, which knows events up to `as_of_ms`, is older than they are.
        """
        self._posts = [frozen.tables["posts"]] if "posts" in frozen.tables else []
        self.deletions.restore(frozen.tables["deletions"])
        self.relations.restore(frozen.tables["relations"])
        self.recent = recent
        self.newest_ms, self.newest_s = frozen.newest_ms, time.monotonic()
        if frozen.counted_since_ms > as_of_ms:
            return False
        self.counts.restore(frozen.tables["counts"], frozen.counted_since_ms)
        return True

    def _delete(self, deletions: pa.Table, store: PostStore, now_ms: int) -> None:
        post_id, at_ms = (deletions[n].to_numpy() for n in ("post_id", "deleted_at_ms"))
        if not len(post_id):
            return
        created_at_s = np.nan_to_num(store.facts(post_id)["created_at_s"])
        with self._changing:
            hidden, hidden_at_ms = self.deletions.add(
                post_id, at_ms, np.rint(created_at_s * 1000).astype(np.int64)
            )
            for fed, _ in self._fed:
                fed.delete(hidden)
        self.recent.delete(hidden, hidden_at_ms, now_ms)

    def _let_go(self) -> None:
        """Keep the newest posts and deletions alone, and in few tables."""
        with self._changing:
            if len(self._posts) >= 100 or sum(map(len, self._posts)) > self._settings.max_posts:
                self._posts = [self._newest(pa.concat_tables(self._posts).combine_chunks())]
            hidden = self.deletions.hidden
            gone = self.deletions.let_go()
            if not len(gone):
                return
            _log.warning("%d deletions are forgotten; args.live.state bounds them", len(gone))
            self._forget(np.intersect1d(gone, hidden))
            self._posts = [without(kept, np.intersect1d(gone, hidden)) for kept in self._posts]
            for store, _ in self._fed:
                store.undelete(gone)

    def _newest(self, posts: pa.Table) -> pa.Table:
        """Without the first to come, as the settings bound them; these are found no longer."""
        settings, created = self._settings, posts["created_at_ms"]
        oldest_ms = (pc.max(created).as_py() or 0) - 1000 * settings.max_age_s
        young = pc.fill_null(pc.greater_equal(created, oldest_ms), True).to_numpy()
        num = max(int(np.argmax(young)), len(posts) - settings.max_posts)
        if num * _FORGET_SHARE <= len(posts):
            return posts
        kept, post_id = posts.slice(num).combine_chunks(), posts["post_id"].to_numpy()
        self._forget(np.setdiff1d(post_id[:num], post_id[num:]))
        self._num_let_go += num
        return kept

    def _forget(self, post_id: Ids) -> None:
        """Find posts [n] no longer, but for a bundle's own."""
        for store, finds in self._fed:
            theirs = post_id[~store.bundle.has(post_id)]
            store.forget(theirs)
            for one in finds:
                one.forget(theirs)

    def _note_times(self, happened: Happened) -> None:
        wall_ms = time.time_ns() // 1_000_000
        for times in (
            happened.posts["created_at_ms"],
            happened.deletions["deleted_at_ms"],
            happened.engagements["at_ms"],
        ):
            past = times.filter(pc.less_equal(times, wall_ms))
            latest_ms = pc.max(past).as_py() or 0
            if latest_ms > self.newest_ms:
                self.newest_ms, self.newest_s = latest_ms, time.monotonic()

    def _insert(self, store: PostStore, posts: pa.Table, now_ms: int) -> None:
        facts = store.facts(posts["post_id"].to_numpy())
        new, _ = posts_of(posts, facts, self.recent.settings.min_video_s)
        self.recent.insert(new, now_ms)


def _show(store: PostStore, finds: list[Finds], posts: pa.Table, again: NDArray[np.bool_]) -> None:
    """Tell of posts, of which some take the place of what was said of them before."""
    anew = posts.filter(pa.array(again))
    store.add(posts)
    if len(anew):
        store.add_again(anew)
    for one in finds if len(posts) else ():
        one.forget(anew["post_id"].to_numpy())
        one.add(posts)

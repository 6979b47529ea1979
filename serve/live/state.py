"""What a replica keeps in memory of what the journal says; it outlives bundles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.live.counts import LiveCounts
from serve.live.messages import Happened
from serve.live.relations import Relations
from serve.stores.posts import PostStore
from serve.stores.recent import RecentPosts, posts_of


class LiveState:
    """A view of the journal: new and deleted posts, recent posts by author, counts, relations.

    Attributes:
        recent: posts of the last days.
        counts: of what was done since the bundle was made.
        relations: whom viewers followed, blocked and muted since.
        newest_ms: of what happened, the latest; 0 = nothing did. What is from after the present,
            as clocks have it, does not count.
        newest_s: when that became known; seconds of time.monotonic.
    """

    def __init__(
        self,
        recent: RecentPosts,
        now_ms: Callable[[], int],
        max_new_posts: int = 1_000_000,
    ) -> None:
        """Know nothing yet.

        Args:
            recent: where posts go by author.
            now_ms: what time it is; ms since 1970.
            max_new_posts: posts kept beside a bundle's; of more the first to come go.
        """
        self.recent = recent
        self.counts = LiveCounts()
        self.relations = Relations()
        self._now_ms = now_ms
        self._max_new_posts = max_new_posts
        self._posts: list[pa.Table] = []
        self._deleted = np.empty(0, np.int64)
        # Stores that new posts go to: that of the bundle in use, then one that is being made.
        self._fed: list[tuple[PostStore, list[Callable[[pa.Table], object]]]] = []
        self.newest_ms, self.newest_s = 0, time.monotonic()
        self._changing = threading.Lock()  # what is kept, and the store that shows it

    def over(self, posts: pa.Table, as_of_ms: int) -> PostStore:
        """A store of a bundle's `posts`, to which what is kept and what comes is added.

        The store in use goes on as well, until `adopt` says that the new one is.

        Args:
            posts: as for `PostStore`.
            as_of_ms: the newest event that the bundle knows.
        """
        store = PostStore(posts, self._max_new_posts)
        self._insert(store, posts, as_of_ms)
        with self._changing:
            for kept in self._posts:
                store.add(kept)
            store.delete(self._deleted)
            self._fed = [*self._fed[:1], (store, [store.add])]
        return store

    def tell(self, store: PostStore, add: Callable[[pa.Table], object]) -> None:
        """Have `add` be told of new posts with `store`: of all that are kept, then as they come.

        A post may be told of twice.
        """
        with self._changing:
            for fed, adds in self._fed:
                if fed is store:
                    adds.append(add)
            for kept in self._posts:
                add(kept)

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
        deleted = happened.deletions["post_id"].to_numpy()
        with self._changing:
            if len(happened.posts):
                self._posts.append(happened.posts)
                self._let_go()
            if len(deleted):
                self._deleted = np.union1d(self._deleted, deleted)
            for store, adds in self._fed:
                for add in adds if len(happened.posts) else ():
                    add(happened.posts)
                if len(deleted):
                    store.delete(deleted)
            store = self._fed[-1][0]
        self._insert(store, happened.posts, now_ms)
        self.recent.delete(deleted, happened.deletions["deleted_at_ms"].to_numpy(), now_ms)
        self.relations.apply(happened)
        self.counts.add(happened.engagements)  # last: what raises above comes again

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

    def _let_go(self) -> None:
        """Keep the newest posts alone, and in few tables."""
        if len(self._posts) < 100:
            return
        kept = pa.concat_tables(self._posts)
        self._posts = [kept.slice(max(0, len(kept) - self._max_new_posts)).combine_chunks()]

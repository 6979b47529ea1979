"""What a replica keeps in memory of what the journal says; it outlives bundles."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from configs import Config
from serve.live.counts import LiveCounts
from serve.live.kept_posts import KeptPosts, LetGo, Told
from serve.live.messages import Happened
from serve.live.relations import Relations
from serve.live.snapshot_file import Frozen, Saved
from serve.stores.lookup import column
from serve.stores.posts import PostStore
from serve.stores.recent import RecentPosts, posts_of

_log = logging.getLogger(__name__)
Ids = NDArray[np.int64]


class StateSettings(Config):
    """How much is kept of what a bundle does not know; of more the oldest go."""

    max_posts: PositiveInt = 1_000_000  # new ones
    max_age_s: PositiveFloat = 1_209_600.0  # of new ones, behind the newest
    max_deletions: PositiveInt = 1_000_000  # 17 bytes each
    max_relations: PositiveInt = 1_000_000  # follows, blocks and mutes, about 300 bytes each
    max_counted: PositiveInt = 2_000_000  # likes, replies, reposts and quotes, 24 bytes each


class Finds(Protocol):
    """What finds new posts."""

    def add(self, posts: pa.Table) -> object:
        """Find rows of schema.POSTS from now on; some may be there already."""

    def forget(self, post_id: Ids) -> None:
        """Find posts [n] no longer."""


class LiveState:
    """A view of the journal: new and deleted posts, recent posts by author, counts, relations.

    A post that was deleted comes back once it is published anew, as it then is, later than it was
    deleted; among recent posts it stands where it stood. What comes again changes nothing, but for
    counts: the follower of the journal leaves those out.

    Attributes:
        recent: posts of the last days.
        counts: of what was done since the bundle was made.
        relations: whom viewers followed, blocked and muted since.
        kept: new posts, and those that were taken away.
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
        settings = settings or StateSettings()
        self.recent = recent
        self.counts = LiveCounts(settings.max_counted)
        self.relations = Relations(settings.max_relations)
        self.kept = KeptPosts(settings.max_posts, settings.max_age_s, settings.max_deletions)
        self._now_ms = now_ms
        # Stores that new posts go to: that of the bundle in use, then one that is being made.
        self._fed: list[tuple[PostStore, list[Finds]]] = []
        self.newest_ms, self.newest_s = 0, time.monotonic()
        self._changing = threading.Lock()  # what is kept, and the stores that show it

    def over(self, posts: pa.Table, as_of_ms: int) -> PostStore:
        """A store of a bundle's `posts`, to which what is kept and what comes is added.

        The store in use goes on as well, until `adopt` says that the new one is.

        Args:
            posts: as for `PostStore`.
            as_of_ms: the newest event that the bundle knows.
        """
        store = PostStore(posts)
        self._insert(store, posts, as_of_ms)
        post_id, created_at_ms, author_id = (
            column(posts, n, 0, np.int64) for n in ("post_id", "created_at_ms", "author_id")
        )
        with self._changing:
            told, hidden = self.kept.over(post_id, created_at_ms)
            _show(store, [], told)
            store.delete(hidden)
            self.relations.learn(post_id, author_id)
            self._fed = [*self._fed[:1], (store, [])]
        return store

    def tell(self, store: PostStore, finds: Finds) -> None:
        """Tell `finds` what `store` is told: of all posts that are kept, then as they come.

        It may be told of a post twice.
        """
        with self._changing:
            bundle = store.bundle
            told, _ = self.kept.over(bundle.post_id, bundle.created_at_ms(bundle.post_id))
            finds.forget(told.again_id)
            finds.add(told.posts)
            for fed, all_finds in self._fed:
                if fed is store:
                    all_finds.append(finds)

    def adopt(self, store: PostStore, as_of_ms: int) -> None:
        """From now on feed the store of the bundle in use alone, and count what it does not."""
        with self._changing:
            self._fed = [one for one in self._fed if one[0] is store]
        if not self.counts.count_since(as_of_ms):
            _log.warning("what was counted since the bundle was made is not all known any more")

    def apply(self, happened: Happened) -> None:
        """As `messages.View` says.

        Raises:
            RuntimeError: there was no `over` yet.
        """
        if not self._fed:
            raise RuntimeError("no bundle is loaded yet")
        self._note_times(happened)
        now_ms = self._now_ms()
        with self._changing:
            store = self._fed[-1][0]
            self._publish(happened.posts, store, now_ms)
            self._delete(happened.deletions, store, now_ms)
            let_go = self.kept.let_go(now_ms)
            if let_go is not None:
                self._forget(let_go)
            facts = store.facts(happened.engagements["post_id"].to_numpy())
            self.relations.apply(happened.engagements, facts["author_id"])
        self.counts.add(happened.engagements)  # last: what raises above comes again

    def stats(self) -> dict[str, float]:
        """Sizes, and what was let go since the start, by name."""
        return {
            "new_posts": len(self.kept),
            "deletions": len(self.kept.deletions),
            "relations": len(self.relations),
            "counted": len(self.counts),
            "new_posts_let_go": self.kept.num_let_go,
            "deletions_let_go": self.kept.deletions.num_let_go,
            "relations_let_go": self.relations.num_let_go,
            "counted_let_go": self.counts.num_let_go,
        }

    def freeze(self) -> Frozen:
        """All that is kept, as it is now; for the one thread that calls `apply`."""
        with self._changing:
            posts, deletions = self.kept.table(), self.kept.deletions.table()
            relations = self.relations.frozen()
        counts = self.counts.table()
        tables: dict[str, Callable[[], pa.Table]] = {
            "posts": lambda: posts,
            "deletions": lambda: deletions,
            "relations": relations.table,  # takes long
            "counts": lambda: counts,
        }
        return Frozen(
            tables, self.recent.freeze(self._now_ms()), self.counts.complete_ms, self.newest_ms
        )

    def restore(self, saved: Saved, as_of_ms: int) -> str | None:
        """Know what a snapshot says, before the first `over`.

        Args:
            saved: deletions and relations at least, or nothing.
            as_of_ms: the newest event that the bundle knows.

        Returns:
            Why the whole journal is to be read for the rest; None = it need not.
        """
        tables = saved.tables
        if "deletions" in tables:
            self.kept.restore(tables.get("posts"), tables["deletions"])
        if "relations" in tables:
            self.relations.restore(tables["relations"])
        if saved.about is None or saved.recent is None:
            return "there is no more of it"
        self.newest_s = time.monotonic()  # first: a clock that read in between would run ahead
        self.newest_ms = min(saved.about.newest_ms, time.time_ns() // 1_000_000)
        self.recent = saved.recent
        self.recent.set_back(self._now_ms())
        if saved.about.counted_since_ms > as_of_ms:
            return "it counts later than the bundle"
        self.counts.restore(tables["counts"], saved.about.counted_since_ms)
        return None

    def _publish(self, posts: pa.Table, store: PostStore, now_ms: int) -> None:
        """Show what is new; what fails in between is done again from the start."""
        told = self.kept.judge(posts)
        if not len(told.posts):
            return
        for fed, finds in self._fed:
            _show(fed, finds, told)
        self._insert(store, told.posts, now_ms)
        created_at_ms = column(told.posts, "created_at_ms", 0, np.int64)
        self.recent.restore(told.again_id, created_at_ms[told.again], now_ms)
        post_id = told.posts["post_id"].to_numpy()
        self.relations.learn(post_id, column(told.posts, "author_id", 0, np.int64))
        self.kept.take(told)

    def _delete(self, deletions: pa.Table, store: PostStore, now_ms: int) -> None:
        post_id, at_ms = (deletions[n].to_numpy() for n in ("post_id", "deleted_at_ms"))
        if not len(post_id):
            return
        created_at_ms = store.created_at_ms(post_id)
        hidden, hidden_at_ms = self.kept.delete(post_id, at_ms, created_at_ms)
        for fed, _ in self._fed:
            fed.delete(hidden)
        self.recent.delete(hidden, hidden_at_ms, now_ms)

    def _forget(self, let_go: LetGo) -> None:
        """Find what was let go of as a bundle has it, unless that is what was deleted."""
        if len(let_go.undeleted):
            num = len(let_go.undeleted)
            _log.warning("%d deletions are forgotten; args.live.state bounds them", num)
        for store, finds in self._fed:
            old = let_go.hidden
            old_ms = store.bundle.created_at_ms(old)
            old = old[~self.kept.deletions.brought_back(old, old_ms)]
            theirs = ~store.bundle.has(let_go.posts) | np.isin(let_go.posts, old)
            store.delete(old)
            store.forget(let_go.posts[theirs])
            store.undelete(let_go.undeleted)
            for one in finds:
                one.forget(let_go.posts[theirs])

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
                self.newest_s = time.monotonic()  # first, as in `restore`
                self.newest_ms = latest_ms

    def _insert(self, store: PostStore, posts: pa.Table, now_ms: int) -> None:
        facts = store.facts(posts["post_id"].to_numpy())
        new, _ = posts_of(posts, facts, self.recent.settings.min_video_s)
        self.recent.insert(new, now_ms)


def _show(store: PostStore, finds: list[Finds], told: Told) -> None:
    """Tell of posts, of which some take the place of what was said of them before."""
    anew = told.posts.filter(pa.array(told.again))
    store.add(told.posts)
    if len(anew):
        store.add_again(anew)
    for one in finds:
        one.forget(told.again_id)
        one.add(told.posts)

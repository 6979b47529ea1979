"""Thunder: the newest posts of the authors that a viewer follows, in memory.

Posts, deletions and restorations come in as they happen, in any order and maybe twice; a read says
what is there at its moment. Nothing here has a clock: every call says what time it is, and the
latest time said is now. When memory is tidied changes nothing that can be read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import IO, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pipelines.feed.services import Hits
from pipelines.whole import new_file
from serve.stores.recent.lists import Held
from serve.stores.recent.reads import ReadLimits, Request, newest
from serve.stores.recent.rows import NEVER, Columns, NewPosts, check_ids
from serve.stores.recent.stats import Counters, about, gauges

_SAVED = tuple(field.name for field in fields(Columns) if field.name != "parent_row")
_FEW_WRITES = 100  # that a trim makes anew while nobody else may write; more it makes before
_CATCH_UPS = 3  # times that it tries to get down to so few
T = TypeVar("T")


class RecentSettings(ReadLimits):
    """What is kept and how much is done at once."""

    retention_s: PositiveInt = 172_800  # age up to which posts are there, and marks remembered
    max_ahead_s: NonNegativeInt = 60  # a post from further in the future is refused
    min_video_s: PositiveFloat = 2.0  # shorter videos do not count as such
    max_concurrent: PositiveInt = 16  # reads; one more is refused
    max_late_posts: PositiveInt = 8_192  # in no list yet; a write that leaves more trims


class BusyError(Exception):
    """As many reads as allowed are going on; the text says how many."""


class RecentPosts:
    """Recent posts by author. Any thread may call anything at any time.

    Reads wait for nobody. Writes wait for each other, and moments for a compaction.
    """

    def __init__(self, settings: RecentSettings | None = None) -> None:
        """Start with no posts."""
        self.settings = settings or RecentSettings()
        self._held = Held.of(Columns.empty().values(0))
        self._now_ms = NEVER
        self._writing = threading.Lock()
        self._trimming = threading.Lock()
        self._missed: list[Callable[[Held], object]] | None = None  # writes since a trim began
        self._places = threading.BoundedSemaphore(self.settings.max_concurrent)
        self._ticking = threading.Lock()
        self._counters = Counters()

    def insert(self, posts: NewPosts, now_ms: int) -> int:
        """Add posts; returns how many.

        A post that is there already is left as it is. One that is too old, or from too far in the
        future, is refused; one from the near future counts as made now. What was deleted before it
        came is kept, and shown only after a restoration.
        """
        with self._writing:
            now_ms = self._tick(now_ms)
            oldest_ms = self._oldest_ms(now_ms)
            early = posts.created_at_ms > now_ms + 1000 * self.settings.max_ahead_s
            old = posts.created_at_ms < oldest_ms
            taken = posts.take(np.flatnonzero(~early & ~old))
            np.minimum(taken.created_at_ms, now_ms, out=taken.created_at_ms)
            inserted = self._write(lambda held: held.add(taken, now_ms, oldest_ms))
        self._counters.add(
            inserted=inserted,
            duplicate=len(taken) - inserted,
            from_future=int(early.sum()),
            too_old=int(old.sum()),
        )
        self._trim_if_due(now_ms)
        return inserted

    def delete(self, post_ids: ArrayLike, at_ms: ArrayLike, now_ms: int) -> None:
        """Take posts away, whether they have come yet or not.

        The latest event of a post decides, of equal times its deletion. That is remembered for the
        retention from when it came.

        Args:
            post_ids: [n].
            at_ms: when each was deleted, or all of them. [n] or a number.
            now_ms: what time it is.
        """
        self._mark(post_ids, at_ms, now_ms, dead=True)

    def restore(self, post_ids: ArrayLike, at_ms: ArrayLike, now_ms: int) -> None:
        """Bring deleted posts back; otherwise as `delete`."""
        self._mark(post_ids, at_ms, now_ms, dead=False)

    def read(
        self,
        viewer_id: int,
        author_ids: ArrayLike,
        excluded: ArrayLike,
        now_ms: int,
        max_results: int,
        videos: bool = False,
    ) -> Hits:
        """The newest posts of some authors that the viewer may see, as `reads` says.

        Args:
            viewer_id: who reads.
            author_ids: whose posts [m]; the first `max_authors` count. None gives nothing.
            excluded: posts to leave out [n]; the first `max_excluded` count.
            now_ms: what time it is.
            max_results: posts wanted.
            videos: only videos.

        Returns:
            Newest first, equal times by larger id; value: when created, seconds since 1970.

        Raises:
            BusyError: `max_concurrent` reads are going on.
            ValueError: an id or `max_results` below 1.
        """
        authors, unwanted = (np.asarray(ids, np.int64) for ids in (author_ids, excluded))
        for name, number in {"viewer_id": viewer_id, "max_results": max_results}.items():
            if number < 1:
                raise ValueError(f"{name}: {number}, expected at least 1")
        check_ids("author_ids", authors)
        check_ids("excluded", unwanted)
        if not self._places.acquire(blocking=False):
            self._counters.add(rejected=1)
            raise BusyError(f"{self.settings.max_concurrent} reads are going on")
        try:
            now_ms = self._tick(now_ms)
            limits = self.settings
            some = authors[: limits.max_authors]
            request = Request(
                viewer_id=viewer_id,
                authors=some if np.all(some[1:] > some[:-1]) else np.unique(some),
                excluded=unwanted[: limits.max_excluded],
                now_ms=now_ms,
                oldest_ms=self._oldest_ms(now_ms),
                max_results=max_results,
                videos=videos,
            )
            c, rows = newest(self._held, request, limits)
            self._counters.add(
                requests=1,
                posts_asked=max_results,
                following_cut=int(len(authors) > limits.max_authors),
                excluded_cut=int(len(unwanted) > limits.max_excluded),
                **about(c, rows, now_ms),
            )
            return Hits(c.post_id[rows], c.created_at_ms[rows] / 1000)
        finally:
            self._places.release()

    def trim(self, now_ms: int) -> None:
        """Let go of posts and marks that are too old, and put the rest in lists.

        Reads and writes go on meanwhile. During another trim it does nothing.
        """
        if not self._trimming.acquire(blocking=False):
            return
        try:
            with self._writing:
                now_ms = self._tick(now_ms)
                held, frozen, self._missed = self._held, self._held.frozen(), []
            self._replace_by(self._sorted(held, frozen, now_ms))
        finally:
            with self._writing:
                self._missed = None
            self._trimming.release()

    @property
    def nbytes(self) -> int:
        """Bytes of memory right after a trim; a trim takes as much again for as long as it runs."""
        return self._held.nbytes

    def freeze(self, now_ms: int | None = None) -> Callable[[IO[bytes]], None]:
        """Writes all posts and marks to a file as `save` does, as they are now; takes no time.

        Args:
            now_ms: what time it is, should a clock have been ahead; None = the latest said.
        """
        with self._writing:
            frozen = self._held.frozen()
            now_ms = self._now_ms if now_ms is None else min(now_ms, self._now_ms)

        def write(file: IO[bytes]) -> None:
            needed = frozen.needed(now_ms, self._oldest_ms(now_ms))
            columns = {name: getattr(frozen, name)[needed] for name in _SAVED}
            np.savez(file, now_ms=np.array(now_ms), **columns)

        return write

    def save(self, path: str | Path) -> None:
        """Write all posts and marks to `path`, an .npz file, whole or not at all."""
        write = self.freeze()
        with new_file(Path(path)) as file:
            write(file)

    @classmethod
    def load(
        cls, path: str | Path | IO[bytes], settings: RecentSettings | None = None
    ) -> RecentPosts:
        """What `save` wrote, with counters at 0.

        Raises:
            ValueError: the file is something else.
        """
        try:
            with np.load(path) as file:
                values = {name: file[name] for name in ("now_ms", *_SAVED)}
        except (ValueError, KeyError, EOFError, TypeError, AttributeError, BadZipFile) as error:
            raise ValueError(f"{path}: not a snapshot of recent posts: {error}") from error
        store = cls(settings)
        store._now_ms = int(values.pop("now_ms"))
        marked = values["marked_until_ms"] > NEVER
        least_ms = values["created_at_ms"] + 1000 * store.settings.retention_s
        np.maximum(values["marked_until_ms"], least_ms, out=values["marked_until_ms"], where=marked)
        store._held = Held.of(values)
        return store

    def set_back(self, now_ms: int) -> None:
        """It is `now_ms` if later was said before: a clock that was ahead was put right."""
        with self._ticking:
            self._now_ms = min(self._now_ms, now_ms)

    def stats(self) -> dict[str, float]:
        """Counters and gauges by name, as `stats` says; milliseconds per million posts."""
        now_ms = self._now_ms
        return self._counters.values() | gauges(self._held, now_ms, self._oldest_ms(now_ms))

    def _mark(self, post_ids: ArrayLike, at_ms: ArrayLike, now_ms: int, dead: bool) -> None:
        ids, at = np.asarray(post_ids, np.int64), np.asarray(at_ms, np.int64)
        check_ids("post_ids", ids)
        if at.shape not in ((), ids.shape):
            raise ValueError(
                f"at_ms: shape {at.shape}, expected a number or one for each of {len(ids)} posts"
            )
        at = np.broadcast_to(at, ids.shape)
        order = np.lexsort((at, ids))
        ids, at = ids[order], at[order]
        last = np.append(ids[1:] != ids[:-1], True)[: len(ids)]  # the latest event of each post
        with self._writing:
            now_ms = self._tick(now_ms)
            ids, at = ids[last], at[last]
            until_ms = now_ms + 1000 * self.settings.retention_s
            self._write(lambda held: held.mark(ids, at, dead, now_ms, until_ms))
        self._trim_if_due(now_ms)

    def _write(self, change: Callable[[Held], T]) -> T:
        """Change what is held, as the only one to do so."""
        if self._missed is not None:
            self._missed.append(change)
        return change(self._held)

    def _trim_if_due(self, now_ms: int) -> None:
        held = self._held
        if held.num - held.num_sorted > self.settings.max_late_posts:
            self.trim(now_ms)

    def _sorted(self, held: Held, frozen: Columns, now_ms: int) -> Held:
        return held.sorted(frozen, frozen.needed(now_ms, self._oldest_ms(now_ms)))

    def _replace_by(self, made: Held) -> None:
        """Take `made` for what is held, once it has the writes that it missed."""
        for catching_up in (*[True] * _CATCH_UPS, False):
            with self._writing:
                missed, self._missed = self._missed or [], []
                if not catching_up or len(missed) <= _FEW_WRITES:
                    for change in missed:
                        change(made)
                    self._held, self._missed = made, None
                    return
            for change in missed:
                change(made)

    def _oldest_ms(self, now_ms: int) -> int:
        return now_ms - 1000 * self.settings.retention_s

    def _tick(self, now_ms: int) -> int:
        """The latest time said."""
        with self._ticking:
            self._now_ms = max(self._now_ms, now_ms)
            return self._now_ms

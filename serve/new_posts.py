"""Posts published since the bundle was made: placed and known within seconds.

The journal tells of posts and deletions; a thread of its own encodes texts and hands posts, a
batch at a time, to the models in this process. When another bundle is loaded, they are handed to
its models too, before it serves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from configs import Config
from pipelines.data.encoder import Encoder, EncoderSettings
from serve.live import snapshots
from serve.live.journal import Journal
from serve.live.kept_posts import KeptPosts
from serve.live.messages import Happened
from serve.live.snapshot_file import Saved
from serve.new_changes import Changes, Place
from serve.new_texts import Encode, NewTexts
from train.bundle import Bundle

_log = logging.getLogger("ray.serve")
_LOOK_S = 0.02  # between looks whether the journal was read
Ids = NDArray[np.int64]


class NewPostsSettings(Config):
    """How many new posts are kept, and how they are handed on."""

    max_posts: PositiveInt = 200_000  # the newest; others wait for the next bundle
    max_age_s: PositiveFloat = 1_209_600.0  # behind the newest post; older ones likewise
    max_deletions: PositiveInt = 1_000_000  # remembered, the newest, for the bundles to come
    batch_posts: PositiveInt = 64  # encoded and handed on together
    retry_after_s: PositiveFloat = 1.0  # when a batch could not be handed on


class Reads(Protocol):
    """What reads the journal for `NewPosts`, as a `Follower`."""

    @property
    def caught_up(self) -> bool:
        """Whether what was written before the start is applied."""


class Knows(Protocol):
    """A model that new posts are handed to. Called by one thread at a time, beside requests."""

    def add_posts(self, posts: pa.Table, content: NDArray[np.float32] | None) -> None:
        """Know posts from now on; those that it knows already stay as they are.

        Args:
            posts: columns of schema.POSTS, each post once, none that is in its bundle or in
                another part than the bundle's.
            content: vectors of their texts, zeros = none. [n, E]; None = no model reads any.

        Raises:
            Exception: it cannot now; the same comes again.
        """

    def remove_posts(self, post_id: Ids) -> None:
        """Know these posts no longer; raises as above."""


class NewPosts:
    """A `View` of the journal that hands posts to the models of one process.

    Which posts, and in which version, `KeptPosts` says. One of the bundle's that was deleted is
    found again with a bundle that has it as it was published anew.

    Attributes:
        problem: why posts go in without their text, or do not go in now; None = all is well.
    """

    def __init__(
        self,
        settings: NewPostsSettings | None = None,
        make_encoder: Callable[[EncoderSettings], Encode] = Encoder,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Gather posts; they are handed on from the first `use` on.

        Args:
            settings: None = defaults.
            make_encoder: loads a text encoder; InputError if it is not there.
            now_ms: what time it is; ms since 1970.
        """
        settings = settings or NewPostsSettings()
        self._settings, self._now_ms = settings, now_ms
        self._texts = NewTexts(make_encoder)
        self._changed = threading.Condition()  # held while reading or writing what follows
        self._kept = KeptPosts(settings.max_posts, settings.max_age_s, settings.max_deletions)
        self._changes = Changes()
        self._at = self._changes.end  # up to where they were handed on
        self._models: tuple[Bundle, tuple[Knows, ...]] | None = None
        self._failure: str | None = None
        self._closed = False
        self._handing_on = threading.Lock()  # held while models are told
        self._worker: threading.Thread | None = None

    @property
    def problem(self) -> str | None:
        """See above."""
        return "; ".join(filter(None, (self._failure, self._texts.problem))) or None

    @property
    def num_waiting(self) -> int:
        """Posts and removals that were not handed on yet."""
        with self._changed:
            return self._changes.num_after(self._at)

    def begin(self, settings: snapshots.SnapshotSettings, journal: Journal) -> snapshots.Start:
        """Know what the last snapshot says, as the feed does; from where to follow the journal."""

        def restore(saved: Saved) -> None:
            if "deletions" in saved.tables:
                self._kept.restore(saved.tables.get("posts"), saved.tables["deletions"])

        return snapshots.start(settings, journal, ("posts", "deletions", "seen"), restore)

    def apply(self, happened: Happened) -> None:
        """As `View.apply`; only takes note."""
        with self._changed:
            told = self._kept.judge(happened.posts)
            self._kept.take(told)
            self._changes.add(told.posts)
            self._delete(*(happened.deletions[n].to_numpy() for n in ("post_id", "deleted_at_ms")))
            self._let_go()
            if self._models is None and not self._handing_on.locked():
                self._at = self._changes.end  # `use` begins with all that is kept
                self._changes.drop(self._at)
            self._changed.notify_all()

    def use(self, bundle: Bundle, *models: Knows) -> None:
        """Hand posts to `models`, which are of `bundle`, from now on; first, all that are kept.

        New ones wait meanwhile. If it fails, the models before go on.

        Raises:
            Exception: what a model raised.
        """
        facts, num = bundle.facts, self._settings.batch_posts
        with self._handing_on:
            with self._changed:
                at = self._changes.end
                told, hidden = self._kept.over(facts.post_id, facts.created_at_ms[:-1])
            self._texts.use(bundle)
            self._remove(models, np.concatenate([hidden, told.again_id]))
            for first in range(0, len(told.posts), num):
                with self._changed:
                    batch = self._that_count(told.posts.slice(first, num))
                self._add(bundle, models, batch)
            while True:
                with self._changed:
                    if not self._changes.num_after(at):
                        self._models = bundle, models
                        self._done(at)
                        break
                at = self._hand_on(bundle, models, at)
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="new-posts", daemon=True)
            self._worker.start()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that was taken note of is handed on; False = it was not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending(), timeout_s)

    def close(self) -> None:
        """Hand on no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join()

    def _delete(self, post_id: Ids, at_ms: Ids) -> None:
        created_at_ms = np.zeros(len(post_id), np.int64)
        if self._models is not None:
            (created_at_ms,) = self._models[0].facts.of_posts(post_id, "created_at_ms")
        hidden, _ = self._kept.delete(post_id, at_ms, created_at_ms)
        self._changes.remove(hidden)
        self._texts.forget(hidden.tolist())

    def _let_go(self) -> None:
        let_go = self._kept.let_go(self._now_ms())
        if let_go is None:
            return
        self._changes.expire(let_go.posts)
        self._changes.keep(self._kept.counts)
        self._texts.forget(let_go.posts.tolist())
        if num := len(let_go.undeleted):
            _log.warning("%d deletions are forgotten; args.new_posts bounds them", num)

    def _pending(self) -> bool:
        return self._models is not None and self._changes.num_after(self._at) > 0

    def _done(self, at: Place) -> None:
        self._at = at
        self._changes.drop(at)
        self._changed.notify_all()

    def _that_count(self, posts: pa.Table) -> pa.Table:
        return posts.filter(pa.array(self._kept.counts(posts)))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._pending())
                if self._closed:
                    return
            try:
                self._step()
                self._failure = None
            except Exception as error:
                _log.exception("new posts wait")
                self._failure = f"new posts wait: {error}"
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, self._settings.retry_after_s)

    def _step(self) -> None:
        """Hand on one batch of posts, and all removals."""
        with self._handing_on:
            with self._changed:
                if self._models is None:
                    return
                bundle, models = self._models
            at = self._hand_on(bundle, models, self._at)
            with self._changed:
                self._done(at)

    def _hand_on(self, bundle: Bundle, models: tuple[Knows, ...], at: Place) -> Place:
        """As `_step`, of what follows a place; returns the place behind it."""
        with self._changed:
            some = self._changes.after(at, self._settings.batch_posts)
            posts = self._that_count(some.posts)
        theirs = bundle.facts.post_row(some.expired) >= 0
        # First: what is published anew was removed before.
        self._remove(models, np.concatenate([some.removed, some.expired[~theirs]]))
        self._add(bundle, models, posts)
        return some.end

    def _add(self, bundle: Bundle, models: tuple[Knows, ...], posts: pa.Table) -> None:
        post_id = posts["post_id"].to_numpy()
        new = (bundle.facts.post_row(post_id) < 0) & bundle.holds(post_id)
        posts = posts.filter(pa.array(new))
        if len(posts):
            content = self._texts.vectors(posts)
            for model in models:
                model.add_posts(posts, content)

    def _remove(self, models: tuple[Knows, ...], post_id: Ids) -> None:
        for model in models if len(post_id) else ():
            model.remove_posts(post_id)


def caught_up(reader: Reads, posts: NewPosts, timeout_s: float) -> bool:
    """Wait until models know all that was told before the start; False = it was not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not reader.caught_up:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_S)
    return posts.settle(max(0.0, deadline_s - time.monotonic()))

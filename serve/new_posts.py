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
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from configs import Config
from pipelines.data.encoder import Encoder, EncoderSettings
from pipelines.schema import POSTS
from serve.live.messages import Happened
from serve.new_texts import Encode, NewTexts
from serve.stores.vectors.index import last_of_each
from train.bundle import Bundle

_log = logging.getLogger("ray.serve")
_LOOK_S = 0.02  # between looks whether the journal was read
_FORGET_SHARE = 20  # posts are forgotten once they are more than 1 in so many
Ids = NDArray[np.int64]


class NewPostsSettings(Config):
    """How many new posts are kept, and how they are handed on."""

    max_posts: PositiveInt = 200_000  # the newest; others wait for the next bundle
    max_age_s: PositiveFloat = 1_209_600.0  # behind the newest post; older ones likewise
    max_deletions: PositiveInt = 200_000  # remembered, the newest, for the bundles to come
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
            posts: columns of schema.POSTS, each post once, none that is in its bundle.
            content: vectors of their texts, zeros = none. [n, E]; None = no model reads any.

        Raises:
            Exception: it cannot now; the same comes again.
        """

    def remove_posts(self, post_id: Ids) -> None:
        """Know these posts no longer; raises as above."""


class NewPosts:
    """A `View` of the journal that hands posts to the models of one process.

    A post that comes again changes nothing. A post that was deleted comes back only if it is
    published anew, later than it was deleted; one of the bundle's comes back with the next bundle.

    Attributes:
        problem: why posts go in without their text, or do not go in now; None = all is well.
    """

    def __init__(
        self,
        settings: NewPostsSettings | None = None,
        make_encoder: Callable[[EncoderSettings], Encode] = Encoder,
    ) -> None:
        """Gather posts; they are handed on from the first `use` on.

        Args:
            settings: None = defaults.
            make_encoder: loads a text encoder; InputError if it is not there.
        """
        self._settings = settings or NewPostsSettings()
        self._texts = NewTexts(make_encoder)
        self._changed = threading.Condition()  # held while reading or writing what follows
        self._posts = POSTS.arrow.empty_table()  # in the order in which they came
        self._first = 0  # posts that came before those, and are forgotten
        self._next = 0  # posts that were handed on, counted likewise
        self._known: set[int] = set()
        self._deleted: dict[int, int] = {}  # post -> when
        self._removals: list[int] = []  # deletions that were not handed on
        self._expired: list[int] = []  # posts forgotten, which was not handed on
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
        """Posts and deletions that were not handed on yet."""
        with self._changed:
            num = self._first + len(self._posts) - self._next
            return num + len(self._removals) + len(self._expired)

    def apply(self, happened: Happened) -> None:
        """As `View.apply`; only takes note."""
        with self._changed:
            self._take(happened.posts)
            for row in happened.deletions.to_pylist():
                self._delete(row["post_id"], row["deleted_at_ms"])
            self._forget()
            self._changed.notify_all()

    def use(self, bundle: Bundle, *models: Knows) -> None:
        """Hand posts to `models`, which are of `bundle`, from now on; first, all that are kept.

        New ones wait meanwhile. If it fails, the models before go on.

        Raises:
            Exception: what a model raised.
        """
        with self._handing_on:
            with self._changed:
                removed, at = list(self._deleted), self._first
            self._texts.use(bundle)
            self._remove(models, removed)
            while True:
                with self._changed:
                    batch, at = self._batch(at)
                    if not len(batch):
                        self._models, self._next = (bundle, models), at
                        self._changed.notify_all()
                        break
                self._add(bundle, models, batch)
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

    def _delete(self, post_id: int, at_ms: int) -> None:
        known_at_ms = self._deleted.pop(post_id, None)
        self._deleted[post_id] = max(at_ms, known_at_ms or 0)
        self._known.discard(post_id)
        if known_at_ms is None:
            self._removals.append(post_id)
        if len(self._deleted) > self._settings.max_deletions:
            oldest = next(iter(self._deleted))
            del self._deleted[oldest]
            _log.warning("post %d was deleted; a bundle to come may bring it back", oldest)

    def _take(self, posts: pa.Table) -> None:
        columns = (posts[name].to_pylist() for name in ("post_id", "created_at_ms"))
        rows = []
        for row, (post_id, created_at_ms) in enumerate(zip(*columns, strict=True)):
            deleted_at_ms = self._deleted.get(post_id)
            if post_id in self._known or (deleted_at_ms or -1) >= (created_at_ms or 0):
                continue
            if deleted_at_ms is not None:  # published anew
                del self._deleted[post_id]
                self._removals = [one for one in self._removals if one != post_id]
            self._known.add(post_id)
            rows.append(row)
        if rows:
            self._posts = pa.concat_tables([self._posts, posts.take(rows)])
            if self._posts["post_id"].num_chunks > 256:  # many small ones are slow
                self._posts = self._posts.combine_chunks()

    def _forget(self) -> None:
        """Let go of posts beyond the settings' bounds; in the models too."""
        settings, created = self._settings, self._posts["created_at_ms"]
        newest_ms = pc.max(created).as_py() or 0
        young = pc.fill_null(pc.greater_equal(created, newest_ms - 1000 * settings.max_age_s), True)
        num_old = int(np.argmax(young.to_numpy())) if len(young) else 0  # the first ones alone
        num = max(num_old, len(self._posts) - settings.max_posts)
        if num * _FORGET_SHARE > len(self._posts):
            gone, self._posts = self._posts["post_id"][:num], self._posts.slice(num)
            ids = np.setdiff1d(gone.to_numpy(), self._posts["post_id"].to_numpy()).tolist()
            self._first += num
            self._next = max(self._next, self._first)
            self._known.difference_update(ids)
            self._expired += ids
            self._texts.forget(ids)

    def _pending(self) -> bool:
        waiting = self._next < self._first + len(self._posts)
        return self._models is not None and bool(waiting or self._removals or self._expired)

    def _batch(self, at: int) -> tuple[pa.Table, int]:
        """Posts from number `at` on that are to be handed on, and the number behind them."""
        at = max(at, self._first)
        while True:
            batch = self._posts.slice(at - self._first, self._settings.batch_posts)
            at += len(batch)
            ids = batch["post_id"].to_numpy()
            stay = [i for i in last_of_each(ids).tolist() if int(ids[i]) not in self._deleted]
            if stay or not len(batch):
                return batch.take(np.array(sorted(stay), np.int64)), at

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
        """Hand on one batch of posts, and all deletions."""
        with self._handing_on:
            with self._changed:
                if self._models is None:
                    return
                bundle, models = self._models
                batch, at = self._batch(self._next)
                removed, expired = self._removals.copy(), self._expired.copy()
            self._add(bundle, models, batch)
            theirs = bundle.facts.post_row(np.array(expired, np.int64)) >= 0
            gone = [one for one, stays in zip(expired, theirs, strict=True) if not stays]
            self._remove(models, removed + gone)
            with self._changed:
                self._next = max(self._next, at)
                done = set(removed)
                self._removals = [one for one in self._removals if one not in done]
                self._expired = self._expired[len(expired) :]
                self._changed.notify_all()

    def _add(self, bundle: Bundle, models: tuple[Knows, ...], posts: pa.Table) -> None:
        known = bundle.facts.post_row(posts["post_id"].to_numpy()) >= 0
        posts = posts.filter(pa.array(~known))
        if len(posts):
            content = self._texts.vectors(posts)
            for model in models:
                model.add_posts(posts, content)

    def _remove(self, models: tuple[Knows, ...], post_id: list[int]) -> None:
        if post_id:
            for model in models:
                model.remove_posts(np.array(post_id, np.int64))


def caught_up(reader: Reads, posts: NewPosts, timeout_s: float) -> bool:
    """Wait until models know all that was told before the start; False = it was not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not reader.caught_up:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_S)
    return posts.settle(max(0.0, deadline_s - time.monotonic()))

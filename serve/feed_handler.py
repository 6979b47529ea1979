"""Answers feed requests: admission, clock, the run of the pipeline, the reply."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import NonNegativeInt, PositiveInt

from configs import Config
from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import FeedResult, Trace
from pipelines.feed.visibility import Kind
from serve import api, api_events, api_similar
from serve import api_diagnostics as wire
from serve.diagnostics import Diagnostics
from serve.live.following import Follow, Following, LiveSettings
from serve.live.intake import Intake
from serve.live.journal import Journal, JournalError
from serve.live.snapshots import Snapshots, Start
from serve.live.state import LiveState
from serve.live.viewers import ViewerActions
from serve.models import Models, Nearby, version
from serve.pages import posts_of, slots_of
from serve.requests import TIMELINE, feed_of, query_of, zoom_of
from serve.served_feed import AsItWas, ServedFeed
from serve.stores.bundle import Stores
from serve.stores.candidates import CandidateStore
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from serve.stores.recent import RecentPosts, RecentSettings
from serve.stores.slots import SlotStore
from serve.stores.viewers import SqliteViewers, ViewerStore
from serve.stores.viewers.store import ViewerStoreError
from serve.stores.watched import Fixed, Watched
from train.bundle import Bundle, BundleError

T = TypeVar("T")
_log = logging.getLogger("ray.serve")
_SIMILARITY_TIMEOUT_S = 1.0  # how long an explanation waits for it


NO_PREFIX = (
    "no prefix vectors; write the bundle with --prefix RUN, a run of "
    "python -m train configs/prefix/posts.yaml"
)


class Limits(Config):
    """What one replica takes on at once."""

    max_in_flight: PositiveInt = 32  # requests; one more is answered 503
    max_events_in_flight: PositiveInt = 16  # requests that tell events, beside those
    retry_after_s: NonNegativeInt = 1  # what a refused client is told to wait
    slot_viewers: PositiveInt = 10_000  # whose last slots are kept in memory
    cached_bytes: NonNegativeInt = 128 * 2**20  # of posts scored for last pages; 80 kB a viewer


class OverloadedError(Exception):
    """More requests at once than `Limits.max_in_flight`."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests at once; try again later")
        self.retry_after_s = retry_after_s


class UnknownPostError(LookupError):
    """A post that was never heard of, or was deleted."""


class NoPrefixError(LookupError):
    """A zoom is asked of a bundle without prefix vectors."""

    def __init__(self, bundle: str) -> None:
        super().__init__(f"zoom: the bundle {bundle}: {NO_PREFIX}")


@dataclass(frozen=True)
class _Serving:
    """All that comes from one bundle; a request sees one of these from start to end."""

    model: api.Model
    explainer: Explainer
    actions: dict[str, int]  # learned ones -> column of p_action
    stores: Stores
    models: Models
    diagnostics: Diagnostics
    has_prefix: bool
    since_s: float  # monotonic


class FeedHandler:
    """The feed behind the routes; knows no HTTP and no Ray."""

    def __init__(
        self,
        pipeline: Pipeline,
        event_log: EventLog,
        limits: Limits | None = None,
        clock: Literal["wall", "log"] = "wall",
        labels: LabelStore | Watched[LabelStore] | None = None,
        preferences: PreferenceStore | Watched[PreferenceStore] | None = None,
        audit_log: EventLog | None = None,
        recent: RecentSettings | None = None,
        viewers: ViewerStore | None = None,
        journal: Journal | None = None,
        live: LiveSettings | None = None,
        observe: Callable[[str, Sequence[Trace]], None] = lambda _, __: None,
        others: Mapping[str, Pipeline] | None = None,
    ) -> None:
        """Ready to serve once `use` was called.

        Args:
            pipeline: the timeline, the feed of a request that names none.
            event_log: where impressions go; closed with this handler.
            limits: what to take on at once.
            clock: "wall" = the real time; "log" = a clock that stood at the bundle's
                newest event when the bundle was loaded, so that a data set from the
                past behaves as if it were today's.
            labels: of posts and authors; None = nothing is labelled.
            preferences: of viewers; None = nobody has any.
            audit_log: where scores for audit go, closed with this handler; None = nowhere.
            recent: how long posts count as recent, and how many are given out; None = defaults.
            viewers: what viewers did lately and were shown; closed with this handler; None = in
                memory, so that this replica knows only what it showed itself, until it ends.
            journal: where events are written, and what the stores follow; closed with this
                handler. None = no events are taken.
            live: how to follow it.
            observe: told the feed's name and what each component did: of each page, then of its
                side effects.
            others: further feeds by the name that requests give; None = there are none.
        """
        self._feeds = {TIMELINE: pipeline, **(others or {})}
        self._event_log = event_log
        self._limits = limits or Limits()
        self._clock = clock
        self._labels = _watched(labels or LabelStore.empty())
        self._preferences = _watched(preferences or PreferenceStore.empty())
        self._audit_log = audit_log
        self._candidates = CandidateStore(self._limits.cached_bytes)
        self._slots = SlotStore(self._limits.slot_viewers)
        self._live_settings = live or LiveSettings()
        self._live = LiveState(RecentPosts(recent), self.now_ms, self._live_settings.state)
        self._journal = journal
        # A clock that follows the log is pushed by what it hears of, so by nothing in its future.
        max_ahead_s = 60.0 if clock == "wall" else 0.0
        self._intake = Intake(journal, self.now_ms, max_ahead_s) if journal else None
        self._snapshots = (
            Snapshots(self._live_settings.snapshots, self._live, journal) if journal else None
        )
        self._start: Start | None = None
        self._following: Following | None = None
        self._observe = observe
        self._viewers = viewers or SqliteViewers()
        # One at a time and beside the threads of models: the first question counts the whole log.
        self._diagnosing = ThreadPoolExecutor(1, "diagnostics")
        self._in_flight = self._events_in_flight = 0
        self._serving: _Serving | None = None
        self.problem: str | None = None  # why a newer bundle is not being served

    def use(self, bundle: Bundle, models: Models) -> None:
        """Serve from `bundle` from the next request on; takes as long as indexing its tables.

        The first time, what the last snapshot knows is read before that.

        Raises:
            BundleError: a feed always asks for what this bundle does not have.
            ConfigError: the timeline has no such setting as the bundle was tuned to.
        """
        model = api.Model(bundle=bundle.path, version=version(bundle), as_of_ms=bundle.as_of_ms)
        for name, feed in self._feeds.items():
            if feed.always_zooms and not bundle.has_prefix:
                raise BundleError(f"the feed {name} sets sources.prefix.zoom; {NO_PREFIX}")
        if self._snapshots and self._start is None:
            self._start = self._snapshots.start(bundle.as_of_ms)
        stores = Stores.of(bundle, self._live)
        if any("text" in feed.requires for feed in self._feeds.values()):
            stores.surfaces.encoder.load()
        self._feeds[TIMELINE].adopt(bundle.feed_settings)
        self._serving = _Serving(
            model=model,
            explainer=Explainer(bundle.actions),
            actions={
                name: column
                for column, name in enumerate(bundle.actions)
                if name in bundle.card["observed_actions"]
            },
            stores=stores,
            models=models,
            diagnostics=Diagnostics(stores, model, lambda: self._labels.now),
            has_prefix=bundle.has_prefix,
            since_s=time.monotonic(),
        )
        self._live.adopt(stores.posts, bundle.as_of_ms)
        self.problem = None

    async def feed(self, request: api.FeedRequest) -> api.FeedResponse:
        """Make the viewer's next page and write it to the event log.

        Raises:
            OverloadedError: `max_in_flight` requests are being answered.
            NoPrefixError: a zoom, and the bundle has no prefix vectors.
            ConfigError: no such feed, a field that it needs is missing or one given that it does
                not take, an override of a setting that it does not allow, or a wrong value.
        """
        feed = feed_of(self._feeds, request)
        async with self._admitted() as serving:
            _check_zoom(request.zoom, serving)
            services = ServedFeed(**self._parts(serving))
            query = query_of(request, self.now_ms())
            result = await feed.run(query, services)
            after = feed.start_side_effects(result, services)
            after.add_done_callback(lambda task: self._observe(request.feed, task.result()))
            self._observe(request.feed, result.trace)
            return api.FeedResponse(
                request_id=query.request_id,
                feed=request.feed,
                user_id=query.user_id,
                cold_start=result.cold_start,
                degraded=list(result.degraded),
                arms=dict(result.arms),
                now_ms=query.now_ms,
                model=serving.model,
                posts=posts_of(result, serving.explainer, serving.actions),
                slots=slots_of(feed, result, self._slots),
            )

    async def similar(self, request: api_similar.SimilarQuery) -> api_similar.SimilarResponse:
        """Find posts whose texts are like a post's, for whoever asks: nobody's wishes count.

        Raises:
            OverloadedError, NoPrefixError: as for `feed`.
            UnknownPostError: the post was never heard of, was deleted, or has no text.
        """
        async with self._admitted() as serving:
            _check_zoom(request.zoom, serving)
            posts = serving.stores.posts
            if not posts.has(request.post_id):
                raise UnknownPostError(f"post {request.post_id}: never heard of, or deleted")
            zoom = zoom_of(request.zoom)
            assert zoom is not None  # it has a default
            near = await serving.models.near(Nearby(request.post_id, request.num, zoom))
            if not near.placed:
                raise UnknownPostError(f"post {request.post_id}: has no text that was encoded")
            facts = posts.facts(near.post_id)
            return api_similar.answer(request.post_id, serving.model, near, facts)

    async def follow(self) -> None:
        """Begin to follow the journal, if there is one; returns once all that was there is known.

        Or after `ready_timeout_s`, when `health` says what is missing. Called once, after `use`.
        """
        if self._journal is None or self._snapshots is None:
            return
        settings = self._live_settings
        training = await asyncio.to_thread(settings.training)  # reads what was written before
        self._following = Following(
            self._journal,
            {
                "memory": Follow(
                    [self._live, self._candidates],
                    start=self._start,
                    checkpoint=self._snapshots.checkpoint,
                ),
                "viewers": Follow(
                    [ViewerActions(self._viewers, asyncio.get_running_loop())],
                    "viewers" if self._viewers.shared else None,
                ),
                "training-log": training,
            },
            settings.dead_letters,
        )
        await asyncio.to_thread(self._following.wait, settings.ready_timeout_s)

    async def events(self, request: api_events.EventsRequest) -> api_events.EventsResponse:
        """Take in posts, deletions and engagements; see `Intake.take`.

        Raises:
            OverloadedError: `max_events_in_flight` such requests are being answered.
            JournalError: there is no journal, or it cannot be written now.
        """
        if self._intake is None:
            raise JournalError("no journal: this server takes no events")
        if self._events_in_flight >= self._limits.max_events_in_flight:
            raise OverloadedError(self._limits.retry_after_s)
        self._events_in_flight += 1
        try:
            return await self._intake.take(request.events)
        finally:
            self._events_in_flight -= 1

    async def explain(self, request: api.ExplainQuery) -> api.ExplainResponse:
        """Say why the viewer gets the post, or does not, as of when it was last shown.

        Runs the feed again with what is known now, at the instant of that page; of what the
        viewer was shown and did, only what came before it counts. Records nothing.

        Raises:
            OverloadedError, ConfigError: as for `feed`.
            UnknownPostError: the post was never heard of, or was deleted.
        """
        feed = feed_of(self._feeds, request)
        async with self._admitted() as serving:
            _check_zoom(request.zoom, serving)
            if not serving.stores.posts.has(request.post_id):
                raise UnknownPostError(f"post {request.post_id}: never heard of, or deleted")
            shown_at_ms = await self._shown_at_ms(request.user_id, request.post_id)
            services = AsItWas(
                **self._parts(serving), post_id=request.post_id, shown_at_ms=shown_at_ms
            )
            query = query_of(request, self.now_ms())
            if shown_at_ms is not None:
                query = replace(query, now_ms=shown_at_ms)
            result = await feed.run(query, services)
            similarity = await self._similarity(result, services, request.post_id)
            explanation = serving.explainer.explain(result, request.post_id, similarity)
            return api.ExplainResponse(
                user_id=request.user_id,
                cold_start=result.cold_start,
                degraded=list(result.degraded),
                model=serving.model,
                explanation=api.Explanation.model_validate(explanation),
            )

    def now_ms(self) -> int:
        """What time it is here; ms since 1970.

        A clock that follows the log is never behind an event that was taken in: it was stopped
        when the server was, and those go on from the last one.
        """
        if self._clock == "wall":
            return time.time_ns() // 1_000_000
        serving = self._now_serving()
        now_s, live = time.monotonic(), self._live
        since_ms, told_ms = (int(1000 * (now_s - s)) for s in (serving.since_s, live.newest_s))
        return max(serving.model.as_of_ms + since_ms, live.newest_ms + told_ms)

    async def diagnose(self, kind: Kind, one_id: int) -> wire.DiagnosticsResponse:
        """Say what the bundle knows of a post or an author; the first question takes longer.

        Raises:
            OverloadedError: as for `feed`.
            UnknownIdError: the bundle does not have it.
        """
        async with self._admitted() as serving:
            ask = partial(serving.diagnostics.subject, kind, one_id, self.now_ms())
            return await asyncio.get_running_loop().run_in_executor(self._diagnosing, ask)

    async def diagnose_viewer(self, user_id: int) -> wire.ViewerDiagnosticsResponse:
        """Say how well the bundle knows a viewer; errors as for `diagnose`."""
        async with self._admitted() as serving:
            ask = partial(serving.diagnostics.viewer, user_id)
            return await asyncio.get_running_loop().run_in_executor(self._diagnosing, ask)

    async def health(self) -> api.Health:
        """What is being served, here and by the models; RuntimeError before the first `use`."""
        serving = self._now_serving()
        versions, held_up = await asyncio.gather(
            serving.models.versions(), serving.models.problems()
        )
        problems = [self.problem] if self.problem else []
        for name, theirs in versions.items():
            if others := sorted(set(theirs) - {serving.model.version}):
                problems.append(
                    f"{name} serves bundle version {', '.join(others)}, "
                    f"FeedHandler {serving.model.version}"
                )
        problems += [one.problem for one in (self._labels, self._preferences) if one.problem]
        status: Literal["ok", "stale", "unlogged", "behind"] = "stale" if problems else "ok"
        following = self._following.status() if self._following else None
        if following and (following.problem or not following.caught_up):
            status = "behind" if status == "ok" else status
            problems.append(
                following.problem or "events from before the start are still being read"
            )
        for name, theirs in held_up.items():
            if theirs:
                status = "behind" if status == "ok" else status
                problems.append(f"{name}: {'; '.join(sorted(set(theirs)))}")
        if self._snapshots and self._snapshots.problem:
            status = "behind" if status == "ok" else status
            problems.append(self._snapshots.problem)
        for log, what in ((self._event_log, "impressions"), (self._audit_log, "audits")):
            if log is not None and log.problem:
                status = "stale" if status == "stale" else "unlogged"
                problems.append(f"{log.problem} ({log.num_lost} {what} lost so far)")
        return api.Health(
            status=status,
            model=serving.model,
            versions={name: list(theirs) for name, theirs in versions.items()},
            in_flight=self._in_flight,
            events=following,
            failures={
                key if name == TIMELINE else f"{name}/{key}": num
                for name, feed in self._feeds.items()
                for key, num in feed.failures.items()
            },
            problem="; ".join(problems) or None,
        )

    def store_stats(self) -> dict[str, float]:
        """What `serve.stores.recent.stats` and `LiveState.stats` say; milliseconds."""
        live = {f"live_{name}": value for name, value in self._live.stats().items()}
        return {f"recent_{name}": value for name, value in self._live.recent.stats().items()} | live

    async def close(self) -> None:
        """Finish what is under way, write out the event log and leave the store of viewers."""
        await asyncio.gather(*(feed.drain() for feed in self._feeds.values()))
        self._diagnosing.shutdown(wait=False)
        try:
            await asyncio.to_thread(self._event_log.close)
        finally:
            if self._following:
                await asyncio.to_thread(self._following.close)
            if self._snapshots:
                await asyncio.to_thread(self._snapshots.close)
            if self._journal:
                await asyncio.to_thread(self._journal.close)
            await self._viewers.close()
            if self._audit_log:
                await asyncio.to_thread(self._audit_log.close)

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[_Serving]:
        if self._in_flight >= self._limits.max_in_flight:
            raise OverloadedError(self._limits.retry_after_s)
        self._in_flight += 1
        try:
            yield self._now_serving()
        finally:
            self._in_flight -= 1

    async def _shown_at_ms(self, user_id: int, post_id: int) -> int | None:
        """When the viewer was last shown the post; None if not, as far as is known."""
        try:
            pages = await self._viewers.pages(user_id)
        except ViewerStoreError:  # `degraded` will say that it is not known
            return None
        return next((page.at_ms for page in reversed(pages) if post_id in page.post_id), None)

    def _parts(self, serving: _Serving) -> dict[str, Any]:
        """What a ServedFeed is made of."""
        return {
            "models": serving.models,
            "stores": serving.stores,
            "viewers": self._viewers,
            "event_log": self._event_log,
            "label_store": self._labels.now,
            "preferences": self._preferences.now,
            "candidates": self._candidates,
            "audit_log": self._audit_log,
        }

    async def _similarity(
        self, result: FeedResult, services: ServedFeed, post_id: int
    ) -> float | None:
        """Of the viewer and a post that no source brought; None if it cannot be told now."""
        history = result.query.context.get("history")
        if history is None or result.retrieved.row_of(post_id) is not None:
            return None
        try:
            asked = services.similarity(history, post_id, result.query.now_ms)
            return await asyncio.wait_for(asked, _SIMILARITY_TIMEOUT_S)
        except Exception as error:  # the rest of the explanation holds without it
            _log.warning("no similarity of post %d: %r", post_id, error)
            return None

    def _now_serving(self) -> _Serving:
        if self._serving is None:
            raise RuntimeError("no bundle is loaded")
        return self._serving


def _check_zoom(zoom: api.Level | None, serving: _Serving) -> None:
    if zoom is not None and not serving.has_prefix:
        raise NoPrefixError(serving.model.bundle)


def _watched(store: T | Watched[T]) -> Watched[T]:
    return store if isinstance(store, Watched) else Fixed(store)

"""Answers requests: each is let in, sees one bundle from start to end, and gets its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from pipelines.feed.hydrators.visibility import Visibility
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import Trace
from pipelines.feed.visibility import Kind
from serve import api_diagnostics as wire
from serve import api_events, api_explain, api_feed, api_health, api_similar
from serve.admission import Admission, Limits
from serve.clock import make_clock
from serve.explain import explain, last_shown_ms
from serve.health import HealthCheck
from serve.live.events import LiveEvents
from serve.live.following import LiveSettings
from serve.live.journal import Journal, JournalError
from serve.live.state import LiveState
from serve.models import Models
from serve.pages import posts_of, slots_of
from serve.requests import TIMELINE, feed_of, query_of
from serve.served_feed import AsItWas, ServedFeed
from serve.serving import Serving, check_feed
from serve.similar import similar
from serve.stores.candidates import CandidateStore
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from serve.stores.recent import RecentPosts, RecentSettings
from serve.stores.slots import SlotStore
from serve.stores.viewers import SqliteViewers, ViewerStore
from serve.stores.watched import Watched, watching
from train.bundle import Bundle


class FeedHandler:
    """The feed behind the routes; knows no HTTP and no Ray."""

    def __init__(
        self,
        pipeline: Pipeline | Watched[Pipeline],
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
        others: Mapping[str, Pipeline | Watched[Pipeline]] | None = None,
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
        limits, live = limits or Limits(), live or LiveSettings()
        given = {TIMELINE: pipeline, **(others or {})}
        self._feed_files = {name: watching(feed) for name, feed in given.items()}
        rules = (x for x in self._feeds[TIMELINE].components if isinstance(x, Visibility))
        self._rules = next(rules, None)  # of visibility, for what is no feed's
        self._event_log, self._audit_log = event_log, audit_log
        self._retry_after_s = limits.retry_after_s
        self._admission = Admission(limits.max_in_flight, limits.retry_after_s)
        self._events_admission = Admission(limits.max_events_in_flight, limits.retry_after_s)
        self._clock = make_clock(clock)
        self._labels = watching(labels or LabelStore.empty())
        self._preferences = watching(preferences or PreferenceStore.empty())
        self._candidates = CandidateStore(limits.cached_bytes)
        self._slots = SlotStore(limits.slot_viewers)
        self._viewers = viewers or SqliteViewers()
        self._live = LiveState(RecentPosts(recent), self.now_ms, live.state)
        self._events = (
            LiveEvents(journal, self._live, live, self.now_ms, self._clock.max_ahead_s)
            if journal
            else None
        )
        self._health = HealthCheck(
            self._feeds,
            (self._labels, self._preferences, *self._feed_files.values()),
            {"impressions": event_log, "audits": audit_log},
            self._events,
        )
        self._observe = observe
        # One at a time and beside the threads of models: the first question counts the whole log.
        self._diagnosing = ThreadPoolExecutor(1, "diagnostics")
        self._serving: Serving | None = None
        self.problem: str | None = None  # why a newer bundle is not being served

    def use(self, bundle: Bundle, models: Models) -> None:
        """Serve from `bundle` from the next request on; takes as long as indexing its tables.

        The first time, what the last snapshot knows is read before that.

        Raises:
            BundleError: as `check_feed`.
            ConfigError: the timeline has no such setting as the bundle was tuned to.
        """
        for name, feed in self._feeds.items():
            check_feed(name, feed, bundle)
        if self._serving is None:
            self._clock.stand(bundle.as_of_ms)
        if self._events:
            self._events.begin(bundle.as_of_ms)
        serving = Serving.of(bundle, models, self._live, lambda: self._labels.now)
        if any("text" in feed.requires for feed in self._feeds.values()):
            serving.stores.surfaces.encoder.load()
        self._feeds[TIMELINE].adopt(bundle.feed_settings)
        self._clock.stand(bundle.as_of_ms)
        self._serving = serving
        self._live.adopt(serving.stores.posts, bundle.as_of_ms)
        self.problem = None

    async def follow(self) -> None:
        """Begin to follow the journal, if there is one; as `LiveEvents.follow`, after `use`."""
        if self._events:
            await self._events.follow([self._candidates], self._viewers)

    async def feed(self, request: api_feed.FeedRequest) -> api_feed.FeedResponse:
        """Make the viewer's next page and write it to the event log.

        Raises:
            OverloadedError: `max_in_flight` requests are being answered.
            NoPrefixError: a zoom, and the bundle has no prefix vectors.
            ConfigError: no such feed, a field that it needs is missing or one given that it does
                not take, an override of a setting that it does not allow, or a wrong value.
        """
        feed = feed_of(self._feeds, request)
        with self._admitted() as serving:
            serving.check_zoom(request.zoom)
            services = ServedFeed(**self._parts(serving))
            query = query_of(request, self.now_ms())
            result = await feed.run(query, services)
            after = feed.start_side_effects(result, services)
            after.add_done_callback(lambda task: self._observe(request.feed, task.result()))
            self._observe(request.feed, result.trace)
            return api_feed.FeedResponse(
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
        """Find posts whose texts are like a post's, for whoever asks; see `serve.similar`.

        Raises:
            OverloadedError, NoPrefixError: as for `feed`.
            UnavailableError: the models do not answer, or serve another bundle still.
            UnknownPostError: the post was never heard of, was deleted, or has no text.
        """
        with self._admitted() as serving:
            serving.check_zoom(request.zoom)
            serving.check_post(request.post_id)
            services = ServedFeed(**self._parts(serving))
            return await similar(
                request, serving, services, self._rules, self.now_ms(), self._retry_after_s
            )

    async def explain(self, request: api_explain.ExplainQuery) -> api_explain.ExplainResponse:
        """Say why the viewer gets the post, or does not, as of when it was last shown.

        Runs the feed again with what is known now, at the instant of that page; of what the
        viewer was shown and did, only what came before it counts. Records nothing.

        Raises:
            OverloadedError, NoPrefixError, ConfigError: as for `feed`.
            UnknownPostError: the post was never heard of, or was deleted.
        """
        feed = feed_of(self._feeds, request)
        with self._admitted() as serving:
            serving.check_zoom(request.zoom)
            serving.check_post(request.post_id)
            shown_at_ms = await last_shown_ms(self._viewers, request.user_id, request.post_id)
            services = AsItWas(
                **self._parts(serving), post_id=request.post_id, shown_at_ms=shown_at_ms
            )
            query = query_of(request, self.now_ms() if shown_at_ms is None else shown_at_ms)
            return await explain(feed, query, services, serving)

    async def events(self, request: api_events.EventsRequest) -> api_events.EventsResponse:
        """Take in posts, deletions and engagements; see `Intake.take`.

        Raises:
            OverloadedError: `max_events_in_flight` such requests are being answered.
            JournalError: there is no journal, or it cannot be written now.
        """
        if self._events is None:
            raise JournalError("no journal: this server takes no events")
        with self._events_admission.admit():
            return await self._events.take(request.events)

    async def diagnose(self, kind: Kind, one_id: int) -> wire.DiagnosticsResponse:
        """Say what the bundle knows of a post or an author; the first question takes longer.

        Raises:
            OverloadedError: as for `feed`.
            UnknownIdError: the bundle does not have it.
        """
        with self._admitted() as serving:
            ask = partial(serving.diagnostics.subject, kind, one_id, self.now_ms())
            return await asyncio.get_running_loop().run_in_executor(self._diagnosing, ask)

    async def diagnose_viewer(self, user_id: int) -> wire.ViewerDiagnosticsResponse:
        """Say how well the bundle knows a viewer; errors as for `diagnose`."""
        with self._admitted() as serving:
            ask = partial(serving.diagnostics.viewer, user_id)
            return await asyncio.get_running_loop().run_in_executor(self._diagnosing, ask)

    async def health(self) -> api_health.Health:
        """What is being served, here and by the models; RuntimeError before the first `use`."""
        serving = self._now_serving()
        return await self._health.report(serving, self._admission.in_flight, self.problem)

    def store_stats(self) -> dict[str, float]:
        """What `serve.stores.recent.stats` and `LiveState.stats` say; milliseconds."""
        live = {f"live_{name}": value for name, value in self._live.stats().items()}
        return {f"recent_{name}": value for name, value in self._live.recent.stats().items()} | live

    def now_ms(self) -> int:
        """What time it is here; ms since 1970."""
        return self._clock.now_ms(self._live)

    async def close(self) -> None:
        """Finish what is under way, write out the event log and leave the store of viewers."""
        await asyncio.gather(*(feed.drain() for feed in self._feeds.values()))
        self._diagnosing.shutdown(wait=False)
        try:
            await asyncio.to_thread(self._event_log.close)
        finally:
            if self._events:
                await asyncio.to_thread(self._events.close)
            await self._viewers.close()
            if self._audit_log:
                await asyncio.to_thread(self._audit_log.close)

    @contextmanager
    def _admitted(self) -> Iterator[Serving]:
        """Let a request in, and give it what is served now."""
        with self._admission.admit():
            yield self._now_serving()

    @property
    def _feeds(self) -> dict[str, Pipeline]:
        """By name; who asks notices another file."""
        return {name: file.now for name, file in self._feed_files.items()}

    def _now_serving(self) -> Serving:
        if self._serving is None:
            raise RuntimeError("no bundle is loaded")
        return self._serving

    def _parts(self, serving: Serving) -> dict[str, Any]:
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

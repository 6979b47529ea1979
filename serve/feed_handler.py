"""Answers feed requests: admission, clock, the run of the pipeline, the reply."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from configs import Config, ConfigError, near_miss
from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import Trace
from pipelines.feed.stages import FeedQuery
from serve import api
from serve.pages import posts_of
from serve.services import AsItWas, Models, ServedFeed, Stores, version
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.recent import RecentPosts, RecentSettings
from serve.stores.served import ServedStore
from train.bundle import Bundle

TIMELINE = "timeline"  # the feed of a request that names none


class Limits(Config):
    """What one replica takes on at once, and remembers."""

    max_in_flight: PositiveInt = 32  # requests; one more is answered 503
    retry_after_s: NonNegativeInt = 1  # what a refused client is told to wait
    served_viewers: PositiveInt = 10_000  # viewers whose last pages are kept in memory
    served_posts: PositiveInt = 400  # posts kept per viewer


class OverloadedError(Exception):
    """More requests at once than `Limits.max_in_flight`."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests at once; try again later")
        self.retry_after_s = retry_after_s


class FieldError(ConfigError):
    """A field of a request that does not suit the feed that it asks for."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


class UnknownPostError(LookupError):
    """A post that the bundle does not have."""


@dataclass(frozen=True)
class _Serving:
    """All that comes from one bundle; a request sees one of these from start to end."""

    model: api.Model
    explainer: Explainer
    actions: dict[str, int]  # learned ones -> column of p_action
    stores: Stores
    models: Models
    since_s: float  # monotonic


class FeedHandler:
    """The feed behind the routes; knows no HTTP and no Ray."""

    def __init__(
        self,
        pipeline: Pipeline,
        event_log: EventLog,
        limits: Limits | None = None,
        clock: Literal["wall", "log"] = "wall",
        labels: LabelStore | None = None,
        recent: RecentSettings | None = None,
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
            recent: how long posts count as recent, and how many are given out; None = defaults.
            observe: told the feed's name and what each component did: of each page, then of its
                side effects.
            others: further feeds by the name that requests give; None = there are none.
        """
        self._feeds = {TIMELINE: pipeline, **(others or {})}
        self._event_log = event_log
        self._limits = limits or Limits()
        self._clock = clock
        self._labels = labels or LabelStore.empty()
        self._recent = RecentPosts(recent)
        self._observe = observe
        self._served = ServedStore(self._limits.served_viewers, self._limits.served_posts)
        self._in_flight = 0
        self._serving: _Serving | None = None
        self.problem: str | None = None  # why a newer bundle is not being served

    def use(self, bundle: Bundle, models: Models) -> None:
        """Serve from `bundle` from the next request on; takes as long as indexing its tables."""
        stores = Stores.of(bundle, self._recent)
        if any("text" in feed.requires for feed in self._feeds.values()):
            stores.surfaces.encoder.load()
        self._serving = _Serving(
            model=api.Model(bundle=bundle.path, version=version(bundle), as_of_ms=bundle.as_of_ms),
            explainer=Explainer(bundle.actions),
            actions={
                name: column
                for column, name in enumerate(bundle.actions)
                if name in bundle.card["observed_actions"]
            },
            stores=stores,
            models=models,
            since_s=time.monotonic(),
        )
        self.problem = None

    async def feed(self, request: api.FeedRequest) -> api.FeedResponse:
        """Make the viewer's next page and write it to the event log.

        Raises:
            OverloadedError: `max_in_flight` requests are being answered.
            ConfigError: no such feed, a field that it needs is missing or one given that it does
                not take, an override of a setting that it does not allow, or a wrong value.
        """
        feed = self._feed(request, "post_id", request.post_id)
        async with self._admitted() as serving:
            services = ServedFeed(*self._parts(serving))
            query = self._query(serving, request, request.post_id)
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
            )

    async def explain(self, request: api.ExplainQuery) -> api.ExplainResponse:
        """Say why the viewer gets the post, or does not, as of when it was last shown.

        Runs the feed again with what is known now, at the instant of that page; of what
        this replica showed the viewer, only what came before it counts as seen. Records
        nothing.

        Raises:
            OverloadedError, ConfigError: as for `feed`.
            UnknownPostError: the bundle does not have the post.
        """
        feed = self._feed(request, "focal_post_id", request.focal_post_id)
        async with self._admitted() as serving:
            if not serving.stores.posts.has(request.post_id):
                raise UnknownPostError(f"post {request.post_id} is not in the bundle")
            services = AsItWas(*self._parts(serving), request.post_id)
            query = self._query(serving, request, request.focal_post_id)
            shown_at_ms = self._served.shown_at_ms(request.user_id, request.post_id)
            if shown_at_ms is not None:
                query = replace(query, now_ms=shown_at_ms)
            result = await feed.run(query, services)
            explanation = serving.explainer.explain(result, request.post_id)
            return api.ExplainResponse(
                user_id=request.user_id,
                cold_start=result.cold_start,
                degraded=list(result.degraded),
                model=serving.model,
                explanation=api.Explanation.model_validate(explanation),
            )

    async def health(self) -> api.Health:
        """What is being served, here and by the models; RuntimeError before the first `use`."""
        serving = self._now_serving()
        versions = await serving.models.versions()
        problems = [self.problem] if self.problem else []
        for name, theirs in versions.items():
            if others := sorted(set(theirs) - {serving.model.version}):
                problems.append(
                    f"{name} serves bundle version {', '.join(others)}, "
                    f"FeedHandler {serving.model.version}"
                )
        status: Literal["ok", "stale", "unlogged"] = "stale" if problems else "ok"
        if unlogged := self._event_log.problem:
            status = "stale" if problems else "unlogged"
            problems.append(f"{unlogged} ({self._event_log.num_lost} impressions lost so far)")
        return api.Health(
            status=status,
            model=serving.model,
            versions={name: list(theirs) for name, theirs in versions.items()},
            in_flight=self._in_flight,
            failures={
                key if name == TIMELINE else f"{name}/{key}": num
                for name, feed in self._feeds.items()
                for key, num in feed.failures.items()
            },
            problem="; ".join(problems) or None,
        )

    async def close(self) -> None:
        """Finish what is under way and write out the event log."""
        await asyncio.gather(*(feed.drain() for feed in self._feeds.values()))
        await asyncio.to_thread(self._event_log.close)

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[_Serving]:
        if self._in_flight >= self._limits.max_in_flight:
            raise OverloadedError(self._limits.retry_after_s)
        self._in_flight += 1
        try:
            yield self._now_serving()
        finally:
            self._in_flight -= 1

    def _parts(self, serving: _Serving) -> tuple[Models, Stores, ServedStore, EventLog, LabelStore]:
        return serving.models, serving.stores, self._served, self._event_log, self._labels

    def _now_serving(self) -> _Serving:
        if self._serving is None:
            raise RuntimeError("no bundle is loaded")
        return self._serving

    def _feed(
        self,
        request: api.FeedRequest | api.ExplainQuery,
        focal_field: str,
        focal_post_id: int | None,
    ) -> Pipeline:
        """The feed that is asked for, if the request gives what it requires and no more."""
        name = request.feed
        if name not in self._feeds:
            raise FieldError("feed", f"no such feed: {name!r}{near_miss(name, self._feeds)}")
        feed = self._feeds[name]
        for part, field, value in (
            ("text", "query", request.query),
            ("focal_post_id", focal_field, focal_post_id),
        ):
            if part in feed.requires and value is None:
                raise FieldError(field, f"missing, and the feed {name} needs it")
            if part not in feed.requires and value is not None:
                takers = [n for n, other in self._feeds.items() if part in other.requires]
                told = f"only {', '.join(takers)}" if takers else "no feed"
                raise FieldError(field, f"the feed {name} takes none; {told} does")
        return feed

    def _query(
        self,
        serving: _Serving,
        request: api.FeedRequest | api.ExplainQuery,
        focal_post_id: int | None,
    ) -> FeedQuery:
        now_ms = (
            time.time_ns() // 1_000_000
            if self._clock == "wall"
            else serving.model.as_of_ms + int(1000 * (time.monotonic() - serving.since_s))
        )
        return FeedQuery(
            user_id=request.user_id,
            limit=request.limit,
            now_ms=now_ms,
            request_id=_request_id(request.feed),
            feed=request.feed,
            text=request.query or "",
            focal_post_id=focal_post_id or 0,
            surface=request.surface,
            in_network_only=request.in_network_only,
            exclude_video=request.exclude_video,
            topic_ids=tuple(request.topic_ids),
            excluded_topic_ids=tuple(request.excluded_topic_ids),
            seen_ids=tuple(request.seen_ids),
            overrides=request.overrides,
        )


def _request_id(feed: str) -> str:
    """Tells pages apart in the event log, and those of other feeds from the timeline's."""
    name = uuid.uuid4().hex
    return name if feed == TIMELINE else f"{feed}/{name}"

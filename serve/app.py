"""The application for Ray Serve: the only file that wraps classes for it.

No `from __future__ import annotations` here: with it Serve would not check `Args`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from ray import serve
from ray.serve import Application
from ray.serve.grpc_util import RayServegRPCContext
from ray.serve.handle import DeploymentHandle

from configs import Config, check, load, near_miss
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Hits, Interference
from serve.batching import Batcher
from serve.deployments import Ranker, Retriever, RetrieverSettings, Scorer, models_of
from serve.feed_handler import FeedHandler, Limits
from serve.live.follower import Follower
from serve.live.following import LiveSettings
from serve.live.journals import JournalSettings, open_journal
from serve.live.sqlite_file import SqliteSettings
from serve.metrics import ComponentMetrics
from serve.models import Comparison, Interfering, Models, Ranking, Search, version
from serve.new_posts import Knows, NewPosts, NewPostsSettings
from serve.requests import TIMELINE
from serve.routes import create_app
from serve.rpc.scored_posts import scored_posts
from serve.rpc.scored_posts_pb2 import ScoredPostsRequest, ScoredPostsResponse
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from serve.stores.recent import RecentSettings
from serve.stores.viewers import ViewerSettings, make_viewer_store
from serve.stores.viewers.sqlite import SqliteSettings as ViewersInFile
from serve.stores.watched import Watched
from train import bundle as bundles

S = TypeVar("S", bound=Config)
T = TypeVar("T")
_log = logging.getLogger("ray.serve")
_ROOT = Path(__file__).parent.parent
_VERSION_TIMEOUT_S = 1.0  # how long /healthz waits for the models' replicas


_FEEDS = {
    TIMELINE: "configs/feed.yaml",
    "explore": "configs/feeds/explore.yaml",
    "search": "configs/feeds/search.yaml",
    "conversations": "configs/feeds/conversations.yaml",
}


class Args(Config):
    """`args` of the application in configs/serve.yaml; relative paths start at the project."""

    bundle: str = "artifacts/bundle"  # written by `python -m train.bundle`
    # Name in requests -> file. All but the timeline may be left out.
    feeds: dict[str, str] = Field(default_factory=_FEEDS.copy)
    event_log: str = "artifacts/events"  # directory that impressions are appended to
    event_log_max_rows: PositiveInt = 10_000  # rows per file
    event_log_max_age_s: PositiveFloat = 10.0  # seconds of impressions that a crash may lose
    topology: Literal["dag", "fused"] = (
        "dag"  # models in replicas of their own, or in FeedHandler's
    )
    clock: Literal["wall", "log"] = "wall"  # "log": starts at the bundle's newest event
    # Files, read again when another one is put in their place.
    labels: str | None = None  # of posts and authors, as serve/stores/labels.py
    preferences: str | None = None  # of viewers, as serve/stores/preferences.py
    audit_log: str | None = None  # directory for scores that side_effects.audit samples
    limits: Limits = Limits()
    recent: RecentSettings = RecentSettings()  # posts that the in-network source finds
    # Where events are written: the file holds for one machine, several need Kafka.
    journal: JournalSettings = SqliteSettings()
    live: LiveSettings = LiveSettings()  # how replicas follow the journal
    # What viewers did lately and were shown: the file holds for one machine, several need Redis.
    viewers: ViewerSettings = ViewersInFile(path="artifacts/live/viewers.db")
    retrieval: RetrieverSettings = RetrieverSettings()  # how posts near a viewer are found
    new_posts: NewPostsSettings = NewPostsSettings()  # how models learn of posts told since
    torch_threads: PositiveInt = 1  # per replica; more are slower where cores are shared

    @field_validator("feeds")
    @classmethod
    def _has_a_timeline(cls, feeds: dict[str, str]) -> dict[str, str]:
        if TIMELINE not in feeds:
            raise ValueError(f"no {TIMELINE!r}, which requests get{near_miss(TIMELINE, feeds)}")
        return feeds


class BundleChoice(Config):
    """`user_config` of every deployment: changing it reloads without a restart."""

    bundle: str


class Reloading:
    """A replica that serves from one bundle until `user_config` names another.

    The new bundle is loaded beside the one being served, then swapped in at once. One
    that cannot be loaded stops a replica that has none yet; a replica that serves goes
    on with what it has and says so, since failing would take the whole feed down.
    """

    _version: str | None = None  # of the bundle being served

    def __init__(self, torch_threads: int) -> None:
        torch.set_num_threads(torch_threads)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve at start and whenever `user_config` changes.

        Raises:
            ConfigError, BundleError: the first bundle cannot be loaded.
        """
        try:
            choice = check(user_config, BundleChoice, place="user_config")
            bundle = await asyncio.to_thread(bundles.load, _absolute(choice.bundle))
            await asyncio.to_thread(self.use, bundle)
        except Exception as error:  # a broken file may raise anything
            if self._version is None:
                raise
            _log.error("still serving the bundle before: %s", error)
            self.refused(str(error))
        else:
            self._version = version(bundle)

    async def version(self) -> str | None:
        """As `models.version`, of the bundle being served."""
        return self._version

    def use(self, bundle: bundles.Bundle) -> None:
        """Make what serves from `bundle`, then swap it in; on a thread of its own."""
        raise NotImplementedError

    def refused(self, problem: str) -> None:
        """Take note that a newer bundle could not be loaded."""


class NewPostsOf:
    """What one replica's models learn of posts that were told since the bundle was made."""

    def __init__(self, args: Args, name: str) -> None:
        """Begin to gather them from the journal."""
        self._posts = NewPosts(args.new_posts)
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._follower = Follower(
            open_journal(_on_disk(args.journal)),
            [self._posts],
            topics=("posts",),
            dead_letters=f"{_absolute(args.live.dead_letters)}/{name}-{replica_id}.jsonl",
            name=f"follower-{name}",
        )

    def use(self, bundle: bundles.Bundle, *models: Knows) -> None:
        """As `NewPosts.use`."""
        self._posts.use(bundle, *models)


class RetrieverReplica(Reloading):
    """Serves a `Retriever`, concurrent searches in one pass."""

    def __init__(self, args: Args) -> None:
        super().__init__(args.torch_threads)
        self._settings = args.retrieval
        self._new_posts = NewPostsOf(args, "retriever")

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        retriever = Retriever(bundle, self._settings)
        self._new_posts.use(bundle, retriever)
        self._search, self._compare = Batcher(retriever.search), Batcher(retriever.similarity)

    async def search(self, search: Search) -> Hits:
        """As `Models.search`."""
        return await self._search(search)

    async def similarity(self, comparison: Comparison) -> float | None:
        """As `Models.similarity`."""
        return await self._compare(comparison)


class RankerReplica(Reloading):
    """Serves a `Ranker`, concurrent rankings in one pass."""

    def __init__(self, args: Args) -> None:
        super().__init__(args.torch_threads)
        self._new_posts = NewPostsOf(args, "ranker")

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        ranker = Ranker(bundle)
        self._new_posts.use(bundle, ranker)
        self._rank = Batcher(ranker.rank)

    async def rank(self, ranking: Ranking) -> NDArray:
        """As `Models.rank`."""
        return await self._rank(ranking)


class ScorerReplica(Reloading):
    """Serves a `Scorer`."""

    def __init__(self, args: Args) -> None:
        super().__init__(args.torch_threads)
        self._new_posts = NewPostsOf(args, "scorer")

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        scorer = Scorer(bundle)
        self._new_posts.use(bundle, scorer.fields)
        self._scorer = scorer

    async def value(self, p_action: NDArray) -> NDArray:
        """As `Models.value`."""
        return self._scorer.value(p_action)

    async def interference(self, asked: Interfering) -> Interference:
        """As `Models.interference`."""
        return await self._scorer.interference(asked)


@serve.ingress()
class FeedHandlerReplica(Reloading):
    """Serves the routes and the RPC; holds the models itself if no handles to them are given."""

    def __init__(self, args: Args, *models: DeploymentHandle) -> None:
        super().__init__(args.torch_threads)
        # Handles may be touched on the event loop only, so here and not in `use`.
        self._remote = _behind(*models) if models else None
        self._args = args
        if not models:
            self._new_posts = NewPostsOf(args, "models")
        replica_id = serve.get_replica_context().replica_id.unique_id
        writer = f"{time.time_ns() // 1_000_000}-{replica_id}"
        feeds = {
            name: Pipeline.build(load(_absolute(path), FeedConfig))
            for name, path in args.feeds.items()
        }
        self._handler = FeedHandler(
            feeds.pop(TIMELINE),
            EventLog(
                _absolute(args.event_log),
                writer=writer,
                max_rows=args.event_log_max_rows,
                max_age_s=args.event_log_max_age_s,
            ),
            limits=args.limits,
            clock=args.clock,
            recent=args.recent,
            journal=open_journal(_on_disk(args.journal)),
            live=args.live.model_copy(
                update={
                    "training_log": _absolute(args.live.training_log),
                    # One file for each writer.
                    "dead_letters": f"{_absolute(args.live.dead_letters)}/{replica_id}",
                }
            ),
            viewers=make_viewer_store(_on_disk(args.viewers)),
            labels=_watched(args.labels, LabelStore.read),
            preferences=_watched(args.preferences, PreferenceStore.read),
            audit_log=(
                EventLog(_absolute(args.audit_log), writer=writer, name="audits")
                if args.audit_log
                else None
            ),
            observe=ComponentMetrics().observe,
            others=feeds,
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """As for other replicas; at start the replica first learns what has happened."""
        first = self._version is None
        await super().reconfigure(user_config)
        if first:
            await self._handler.follow()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._handler)

    async def GetScoredPosts(  # noqa: N802  # Serve calls it by its name in scored_posts.proto
        self, request: ScoredPostsRequest, grpc_context: RayServegRPCContext
    ) -> ScoredPostsResponse:
        """As `serve.rpc.scored_posts.scored_posts`."""
        return await scored_posts(self._handler, request, grpc_context)

    def refused(self, problem: str) -> None:
        """Let /healthz say so."""
        self._handler.problem = problem

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        models = self._remote
        if models is None:
            retriever, ranker = Retriever(bundle, self._args.retrieval), Ranker(bundle)
            scorer = Scorer(bundle)
            self._new_posts.use(bundle, retriever, ranker, scorer.fields)
            models = models_of(retriever, ranker, scorer)
        self._handler.use(bundle, models)


def build(args: Args) -> Application:
    """The application that `args` of a Serve config file describes."""
    chosen = {"bundle": args.bundle}

    def deployment(replica: type, name: str, *bound: Any) -> Application:
        return serve.deployment(name=name, user_config=chosen)(replica).bind(*bound)

    models = []
    if args.topology == "dag":
        models = [
            deployment(RetrieverReplica, "Retriever", args),
            deployment(RankerReplica, "Ranker", args),
            deployment(ScorerReplica, "Scorer", args),
        ]
    return deployment(FeedHandlerReplica, "FeedHandler", args, *models)


def _behind(
    retriever: DeploymentHandle, ranker: DeploymentHandle, scorer: DeploymentHandle
) -> Models:
    deployments = {"Retriever": retriever, "Ranker": ranker, "Scorer": scorer}

    async def ask(handle: DeploymentHandle) -> list[str]:
        try:
            answers = await handle.broadcast("version").results_async(
                timeout_s=_VERSION_TIMEOUT_S, return_exceptions=True
            )
        except Exception as error:  # no replica, or a slow one: others say so, see `failures`
            _log.warning("%s does not say which bundle it serves: %r", handle, error)
            return []
        return [answer for answer in answers if isinstance(answer, str)]

    async def versions() -> dict[str, list[str]]:
        answers = await asyncio.gather(*map(ask, deployments.values()))
        return dict(zip(deployments, answers, strict=True))

    return Models(
        retriever.search.remote,
        ranker.rank.remote,
        scorer.value.remote,
        versions,
        retriever.similarity.remote,
        scorer.interference.remote,
    )


def _on_disk(settings: S) -> S:
    """The same with its `path`, if it has one, from the project on."""
    path = getattr(settings, "path", None)
    return settings.model_copy(update={"path": _absolute(path)}) if path else settings


def _watched(path: str | None, read: Callable[[str], T]) -> Watched[T] | None:
    return Watched(_absolute(path), read) if path else None


def _absolute(path: str) -> str:
    return path if "://" in path else str(_ROOT / path)

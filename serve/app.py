"""The application for Ray Serve: the only file that wraps classes for it.

No `from __future__ import annotations` here: with it Serve would not check `Args`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application
from ray.serve.grpc_util import RayServegRPCContext
from ray.serve.handle import DeploymentHandle

from pipelines.feed.services import Hits, Interference
from serve.batching import Batcher
from serve.deployments import Ranker, Retriever, Scorer, models_of
from serve.feed_files import feed_file
from serve.feed_handler import FeedHandler
from serve.handles import behind, serving
from serve.index_shard import IndexShard, Versions
from serve.live.journals import open_journal
from serve.metrics import ComponentMetrics, StoreMetrics
from serve.models import Comparison, Interfering, Near, Nearby, Ranking, Search, version
from serve.reloading import LearningReplica, NewPostsOf, Reloading
from serve.requests import TIMELINE
from serve.routes import create_app
from serve.rpc.scored_posts import scored_posts
from serve.rpc.scored_posts_pb2 import ScoredPostsRequest, ScoredPostsResponse
from serve.settings import Args, absolute, on_disk, watched
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from serve.stores.vectors.sharded import Answer, Question, Shards
from serve.stores.viewers import make_viewer_store
from train import bundle as bundles
from train.bundle.part import Part

# What a shard's entry in the Serve config file need not say.
_SHARD: Mapping[str, Any] = {
    "max_ongoing_requests": 32,
    "max_surge_percent": 100,
    "ray_actor_options": {"num_cpus": 0.2},
}


class IndexShardReplica(LearningReplica):
    """Serves a part of the index."""

    def __init__(self, args: Args, number: int) -> None:
        super().__init__(args, f"shard-{number}")
        self._settings, self._part = args.retrieval, Part(number, args.retrieval.shards)
        self._shards = Versions()

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        mine = bundle.of_part(self._part)
        settings = self._settings
        shard = IndexShard(mine, settings.vectors, settings.prefix.merge_after)
        self._new_posts.use(mine, shard)
        self._shards.use(shard)

    async def answer(self, question: Question) -> Answer:
        """As `Versions.answer`."""
        return await asyncio.to_thread(self._shards.answer, question)


class RetrieverReplica(LearningReplica):
    """Serves a `Retriever`, concurrent searches in one pass."""

    def __init__(self, args: Args, *shards: DeploymentHandle) -> None:
        super().__init__(args, "retriever")
        self._settings, self._timeout_s = args.retrieval, args.live.ready_timeout_s
        self._handles = {handle.deployment_name: handle for handle in shards}
        self._shards: Shards | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """As for other replicas; another bundle is used once the shards have it."""
        if self._handles and self._shards is None:
            settings, loop = self._settings, asyncio.get_running_loop()
            asks = {name: handle.answer.remote for name, handle in self._handles.items()}
            timeout_s = settings.shard_timeout_ms / 1000
            self._shards = Shards(asks, loop, timeout_s, settings.shard_retry_after_s)
            StoreMetrics(self._shards.stats).start()
        await super().reconfigure(user_config)

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        retriever = Retriever(bundle, self._settings, self._shards)
        if self._shards is not None:
            wanted = version(bundle)
            self._shards.run(serving(wanted, self._handles, self._timeout_s))
        self._new_posts.use(bundle, retriever)
        self._search, self._compare = Batcher(retriever.search), Batcher(retriever.similarity)
        self._near = Batcher(retriever.near)

    async def search(self, search: Search) -> Hits:
        """As `Models.search`."""
        return await self._search(search)

    async def similarity(self, comparison: Comparison) -> float | None:
        """As `Models.similarity`."""
        return await self._compare(comparison)

    async def near(self, nearby: Nearby) -> Near:
        """As `Models.near`."""
        return await self._near(nearby)


class RankerReplica(LearningReplica):
    """Serves a `Ranker`, concurrent rankings in one pass."""

    def __init__(self, args: Args) -> None:
        super().__init__(args, "ranker")
        self._settings = args.ranking

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """As for other replicas; from the start on it tells what it keeps."""
        first = self._version is None
        await super().reconfigure(user_config)
        if first:
            StoreMetrics(lambda: self._ranker.stats()).start()

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        ranker = Ranker(bundle, self._settings)
        self._new_posts.use(bundle, ranker)
        self._ranker, self._rank = ranker, Batcher(ranker.rank)

    async def rank(self, ranking: Ranking) -> NDArray:
        """As `Models.rank`."""
        return await self._rank(ranking)

    async def stats(self) -> Mapping[str, float]:
        """As `Ranker.stats`."""
        return self._ranker.stats()


class ScorerReplica(LearningReplica):
    """Serves a `Scorer`."""

    def __init__(self, args: Args) -> None:
        super().__init__(args, "scorer")

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
        self._remote = behind(*models) if models else None
        self._args = args
        self._ranker_stats: Callable[[], Mapping[str, float]] = dict  # of a ranker in this replica
        if not models:
            self._new_posts = NewPostsOf(args, "models")
        replica_id = serve.get_replica_context().replica_id.unique_id
        writer = f"{time.time_ns() // 1_000_000}-{replica_id}"
        feeds = {name: feed_file(absolute(path)) for name, path in args.feeds.items()}
        self._handler = FeedHandler(
            feeds.pop(TIMELINE),
            EventLog(
                absolute(args.event_log),
                writer=writer,
                max_rows=args.event_log_max_rows,
                max_age_s=args.event_log_max_age_s,
            ),
            limits=args.limits,
            clock=args.clock,
            recent=args.recent,
            journal=open_journal(on_disk(args.journal)),
            live=args.live.model_copy(
                update={
                    "training_log": absolute(args.live.training_log),
                    # One file for each writer.
                    "dead_letters": f"{absolute(args.live.dead_letters)}/{replica_id}",
                    "snapshots": on_disk(args.live.snapshots, "directory"),
                }
            ),
            viewers=make_viewer_store(on_disk(args.viewers)),
            labels=watched(args.labels, LabelStore.read),
            preferences=watched(args.preferences, PreferenceStore.read),
            audit_log=(
                EventLog(absolute(args.audit_log), writer=writer, name="audits")
                if args.audit_log
                else None
            ),
            observe=ComponentMetrics().start().observe,
            others=feeds,
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """As for other replicas; at start the replica first learns what has happened."""
        first = self._version is None
        await super().reconfigure(user_config)
        if first:
            waiting: list[Awaitable[object]] = [self._handler.follow()]
            if self._remote is None:
                timeout_s = self._args.live.ready_timeout_s
                waiting.append(asyncio.to_thread(self._new_posts.wait, timeout_s))
            await asyncio.gather(*waiting)
            StoreMetrics(lambda: {**self._handler.store_stats(), **self._ranker_stats()}).start()

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

    async def stats(self) -> Mapping[str, float]:
        """As `Ranker.stats`, of the ranker in this replica; empty if there is none."""
        return self._ranker_stats()

    async def _own_problems(self) -> dict[str, list[str]]:
        """As `Models.problems`, of models in this replica."""
        return {"models": list(filter(None, [self._new_posts.problem]))}

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        models = self._remote
        if models is None:
            retriever = Retriever(bundle, self._args.retrieval)
            ranker, scorer = Ranker(bundle, self._args.ranking), Scorer(bundle)
            self._new_posts.use(bundle, retriever, ranker, scorer.fields)
            models = replace(models_of(retriever, ranker, scorer), problems=self._own_problems)
            self._ranker_stats = ranker.stats
        self._handler.use(bundle, models)


def build(args: Args) -> Application:
    """The application that `args` of a Serve config file describes."""
    chosen = {"bundle": args.bundle}

    def deployment(replica: type, name: str, *bound: Any, **options: Any) -> Application:
        return serve.deployment(name=name, user_config=chosen, **options)(replica).bind(*bound)

    models = []
    if args.topology == "dag":
        shards = [
            deployment(IndexShardReplica, name, args, number, **_SHARD)
            for number, name in enumerate(_shard_names(args))
        ]
        models = [
            deployment(RetrieverReplica, "Retriever", args, *shards),
            deployment(RankerReplica, "Ranker", args),
            deployment(ScorerReplica, "Scorer", args),
            *shards,
        ]
    return deployment(FeedHandlerReplica, "FeedHandler", args, *models)


def _shard_names(args: Args) -> list[str]:
    """Deployments that hold the index; none where the Retriever does."""
    num = args.retrieval.shards
    return [f"IndexShard{number}" for number in range(num)] if num > 1 else []

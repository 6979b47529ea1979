"""The application for Ray Serve: the only file that wraps classes for it.

No `from __future__ import annotations` here: with it Serve would not check `Args`.
"""

import asyncio
import logging
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
from serve.live.journals import open_journal
from serve.metrics import ComponentMetrics, StoreMetrics
from serve.models import Comparison, Interfering, Models, Near, Nearby, Ranking, Search
from serve.reloading import LearningReplica, NewPostsOf, Reloading
from serve.requests import TIMELINE
from serve.routes import create_app
from serve.rpc.scored_posts import scored_posts
from serve.rpc.scored_posts_pb2 import ScoredPostsRequest, ScoredPostsResponse
from serve.settings import Args, absolute, on_disk, watched
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from serve.stores.viewers import make_viewer_store
from train import bundle as bundles

_log = logging.getLogger("ray.serve")
_VERSION_TIMEOUT_S = 1.0  # how long /healthz waits for the models' replicas


class RetrieverReplica(LearningReplica):
    """Serves a `Retriever`, concurrent searches in one pass."""

    def __init__(self, args: Args) -> None:
        super().__init__(args, "retriever")
        self._settings = args.retrieval

    def use(self, bundle: bundles.Bundle) -> None:
        """As `Reloading.use`."""
        retriever = Retriever(bundle, self._settings)
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
        self._remote = _behind(*models) if models else None
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
            observe=ComponentMetrics().observe,
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

    async def ask(what: str, handle: DeploymentHandle) -> list[str]:
        try:
            answers = await handle.broadcast(what).results_async(
                timeout_s=_VERSION_TIMEOUT_S, return_exceptions=True
            )
        except Exception as error:  # no replica, or a slow one: others say so, see `failures`
            _log.warning("%s does not tell its %s: %r", handle, what, error)
            return []
        return [answer for answer in answers if isinstance(answer, str)]

    async def versions() -> dict[str, list[str]]:
        asked = [ask("version", handle) for handle in deployments.values()]
        return dict(zip(deployments, await asyncio.gather(*asked), strict=True))

    async def problems() -> dict[str, list[str]]:
        asked = [ask("problem", handle) for handle in deployments.values()]
        return dict(zip(deployments, await asyncio.gather(*asked), strict=True))

    return Models(
        search=retriever.search.remote,
        rank=ranker.rank.remote,
        value=scorer.value.remote,
        versions=versions,
        similarity=retriever.similarity.remote,
        problems=problems,
        near=retriever.near.remote,
        interference=scorer.interference.remote,
    )

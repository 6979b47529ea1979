"""Measures trials of a blend side by side, each in an actor of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch

from configs import load
from pipelines.feed.discover import FeedConfig
from pipelines.runtime import connect
from train import bundle as bundles
from train.tuning.pages import Measured, Pages
from train.tuning.ready import Requests
from train.tuning.settings import BlendSearch


class _Worker:
    """Holds the requests."""

    def __init__(self, requests: Requests, config: BlendSearch, feed: FeedConfig) -> None:
        torch.set_num_threads(1)
        bundle = bundles.load(config.bundle)
        self._pages = Pages(
            requests, bundle, feed, config.space, config.num_chunks, config.num_fields
        )

    def measure(self, settings: dict[str, Any], chunk: int) -> Measured:
        """As `Pages.measure`."""
        return self._pages.measure(settings, chunk)


class OnCluster:
    """One trial an actor at a time; chunks of one trial may run anywhere."""

    def __init__(self, workers: list[Any], num_chunks: int) -> None:
        """Hand chunks to whichever of `workers` has the least to do."""
        self._workers, self.num_chunks = workers, num_chunks
        self._waiting = [0] * len(workers)

    @property
    def num_at_once(self) -> int:
        """Trials."""
        return len(self._workers)

    def submit(self, settings: dict[str, Any], chunk: int) -> Future[Measured]:
        """As `blends.Executor`."""
        at = self._waiting.index(min(self._waiting))
        self._waiting[at] += 1

        def done(_: Future[Measured]) -> None:
            self._waiting[at] -= 1

        future: Future[Measured] = self._workers[at].measure.remote(settings, chunk).future()
        future.add_done_callback(done)
        return future


@contextmanager
def on_cluster(
    requests: Requests, config: BlendSearch, num_workers: int | None, num_chunks: int
) -> Iterator[OnCluster]:
    """Actors that hold the requests, until the block's end.

    Args:
        requests: ready.
        config: of the search; every node must see its bundle.
        num_workers: None = one a CPU of the cluster.
        num_chunks: of a trial.
    """
    feed = load(config.feed, FeedConfig)
    if "://" not in config.bundle:
        config = config.model_copy(update={"bundle": str(Path(config.bundle).resolve())})
    connect()
    num = num_workers or int(ray.cluster_resources()["CPU"])
    shared = ray.put(requests)
    actor: Any = ray.remote(_Worker)
    workers = [actor.remote(shared, config, feed) for _ in range(num)]
    try:
        yield OnCluster(workers, num_chunks)
    finally:
        for worker in workers:
            ray.kill(worker)

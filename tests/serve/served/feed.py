"""A running feed: ways to ask it, to change its bundle, to kill its replicas and to wait for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ray
from ray.util.state import list_actors

from serve.rpc.scored_posts_pb2 import ScoredPostsRequest
from serve.rpc.scored_posts_pb2_grpc import ScoredPostsServiceStub

CONFIG = Path(__file__).parents[3] / "configs" / "serve.yaml"
FEED = CONFIG.with_name("feed.yaml")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Served:
    """A running feed."""

    http: httpx.Client
    event_log: Path
    config: dict
    bundle: Path
    grpc: ScoredPostsServiceStub
    timeline: Path  # its feed.yaml

    def rpc(self, request: ScoredPostsRequest, timeout: float = 30, **more: Any) -> Any:
        """Ask for a page over gRPC."""
        return self.grpc.GetScoredPosts(request, timeout=timeout, **more)

    def calling(self, request: ScoredPostsRequest) -> Any:
        """The same without waiting."""
        return self.grpc.GetScoredPosts.future(request, timeout=30)

    def feed(self, user_id: int, limit: int = 5, **more: Any) -> httpx.Response:
        """Ask for a page."""
        return self.http.post("/v1/feed", json={"user_id": user_id, "limit": limit, **more})

    def similar(self, post_id: int, **more: Any) -> dict[str, Any]:
        """Ask for posts like a post."""
        reply = self.http.get("/v1/similar", params={"post_id": post_id, **more})
        assert reply.status_code == 200, reply.text
        return reply.json()


def eventually(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until `holds`; an answer that is none yet counts as no."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if holds():
                return
        except (httpx.TransportError, ValueError):  # not there, or not JSON
            pass
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def with_bundle(config: dict, bundle: Path) -> dict:
    """As a person would edit the file: `user_config` on every deployment."""
    (application,) = config["applications"]
    deployments = [d | {"user_config": {"bundle": str(bundle)}} for d in application["deployments"]]
    return {**config, "applications": [{**application, "deployments": deployments}]}


def apply(config: dict) -> None:
    """What `serve deploy` asks of the controller."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))


def kill_replicas(deployment: str, application: str = "rayfeed") -> None:
    """End their processes, which answer nothing more once this returns."""
    prefix = f"SERVE_REPLICA::{application}#{deployment}#"
    here = ray.get_runtime_context().gcs_address  # other clusters may run on the machine
    alive = list_actors(address=here, filters=[("state", "=", "ALIVE")], limit=1_000)
    pids = [actor.pid for actor in alive if (actor.name or "").startswith(prefix)]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.05)

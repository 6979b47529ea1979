"""An index in shards, over HTTP: answers as from one index, and pages while a shard is dead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import httpx
import pytest

from serve.deploy import writing_to
from tests.serve.served.feed import Served, apply, eventually, kill_replicas

pytestmark = pytest.mark.ray
NAME = "sharded"
POST = 40


@pytest.fixture
def sharded(served: Served, tmp_path) -> Iterator[Served]:
    """A second application beside the first, of the same bundle, whose index is in two shards."""
    (first,) = served.config["applications"]
    changes = {**writing_to(tmp_path), "retrieval": {"shards": 2, "shard_retry_after_s": 0.2}}
    deployments = ("FeedHandler", "Retriever", "Ranker", "Scorer", "IndexShard0", "IndexShard1")
    second = {
        **first,
        "name": NAME,
        "route_prefix": f"/{NAME}",
        "args": first["args"] | changes,
        "deployments": [
            {"name": name, "num_replicas": 1, "ray_actor_options": {"num_cpus": 0.01}}
            for name in deployments
        ],
    }
    apply({**served.config, "applications": [first, second]})
    with httpx.Client(base_url=served.http.base_url.join(f"/{NAME}"), timeout=30) as http:
        yield replace(served, http=http, event_log=tmp_path / "events")
    apply(served.config)


def test_a_killed_shard_costs_no_page(served, sharded):
    """Whole, answers are those of one index; with a shard killed they are flagged, then whole."""

    def health() -> dict:
        return sharded.http.get("/healthz").json()

    eventually(lambda: health().get("status") == "ok", timeout_s=200)  # six more processes
    assert {"IndexShard0", "IndexShard1"} <= health()["versions"].keys()
    for zoom in ("coarse", "fine"):
        ours, theirs = (feed.similar(POST, zoom=zoom) for feed in (sharded, served))
        found = [[post["post_id"] for post in one["posts"]] for one in (ours, theirs)]
        assert found[0] == found[1]
        assert ours["missing"] == []
    viewers = count(1)  # each asked for once: a page may be made of what was scored for the last
    page = sharded.feed(next(viewers)).json()
    assert page["degraded"] == []
    kill_replicas("IndexShard1", NAME)
    replies = [sharded.feed(next(viewers)) for _ in range(3)]
    assert health()["status"] == "partial"
    assert {reply.status_code for reply in replies} == {200}
    assert all(reply.json()["degraded"] == ["sources.two_tower"] for reply in replies)
    assert all(reply.json()["posts"] for reply in replies)
    assert "IndexShard1 does not answer" in health()["problem"]
    eventually(lambda: health().get("status") == "ok")
    eventually(lambda: sharded.feed(next(viewers)).json()["degraded"] == [])

"""Every route answers over HTTP, through HAProxy, from real replicas."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow.parquet as pq
import pytest
import ray

from configs import load as load_config
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve.api_feed import FeedRequest, FeedResponse
from serve.deployments import local_models
from serve.feed_handler import FeedHandler
from serve.stores.event_log import EventLog
from serve.stores.recent import RecentSettings
from tests.conftest import UNKNOWN_USER
from tests.serve.prefix_data import twin
from tests.serve.served.feed import eventually
from train.bundle import load

pytestmark = pytest.mark.ray
POST = 40


def test_feeds_are_served(served):
    """A known viewer gets a ranked page from all four deployments, a stranger a cold start."""
    known, stranger = served.feed(1).json(), served.feed(UNKNOWN_USER).json()
    assert (known["cold_start"], known["degraded"], len(known["posts"])) == (False, [], 5)
    assert (stranger["cold_start"], stranger["degraded"], len(stranger["posts"])) == (True, [], 5)
    assert known["posts"][0]["p_action"]


def test_both_topologies_make_the_same_page(served, tmp_path, monkeypatch):
    """What a fused replica runs makes the page that four deployments made, at the same instant."""
    theirs = served.feed(11).json()
    bundle, recent = load(served.bundle), served.config["applications"][0]["args"]["recent"]

    async def page() -> FeedResponse:
        handler = FeedHandler(
            Pipeline.build(load_config(served.timeline, FeedConfig)),
            EventLog(tmp_path, writer="here"),
            clock="log",
            recent=RecentSettings(**recent),
        )
        handler.use(bundle, local_models(bundle))
        monkeypatch.setattr(handler, "now_ms", lambda: theirs["now_ms"])
        ours = await handler.feed(FeedRequest(user_id=11, limit=len(theirs["posts"])))
        await handler.close()
        return ours

    ours = asyncio.run(page()).model_dump(mode="json")
    for mine, other in zip(ours["posts"], theirs["posts"], strict=True):
        assert (mine["post_id"], mine["reason"]) == (other["post_id"], other["reason"])
        assert mine["score"] == pytest.approx(other["score"], rel=1e-5)
        assert mine["p_action"] == pytest.approx(other["p_action"], rel=1e-4, abs=1e-6)


def test_explain_health_and_docs_are_served(served):
    """Every route answers through HAProxy, and /docs shows what there is."""
    post_id = served.feed(2).json()["posts"][0]["post_id"]
    told = served.http.get("/v1/explain", params={"user_id": 2, "post_id": post_id}).json()
    assert told["explanation"]["post_id"] == post_id
    assert served.http.get("/healthz").json()["status"] == "ok"
    assert "rayfeed" in served.http.get("/docs").text


def test_what_happens_reaches_every_replica(served, world):
    """A post that is told is found by its author's followers and ranked; who acts is no stranger.

    Sent again it is a duplicate, and a follower of the journal that lags says so in /healthz.
    """
    follower, author = (world.follows[name][0].as_py() for name in ("follower_id", "followee_id"))
    stranger, new = 77_777, 900_001
    events = [
        {"kind": "post", "post_id": new, "author_id": author, "text": "rain"},
        {"kind": "engagement", "user_id": stranger, "post_id": 3, "action": "favorite"},
        {"kind": "engagement", "user_id": stranger, "post_id": 0, "action": "favorite"},
    ]
    reply = served.http.post("/v1/events", json={"events": events})
    assert reply.status_code == 207
    statuses = [result["status"] for result in reply.json()["results"]]
    assert statuses == ["accepted", "accepted", "invalid"]
    again = served.http.post("/v1/events", json={"events": events[:1]})
    assert (again.status_code, again.json()["results"][0]["status"]) == (202, "duplicate")

    query = {"user_id": follower, "post_id": new, "in_network_only": True}
    eventually(lambda: served.http.get("/v1/explain", params=query).status_code == 200)
    eventually(lambda: not served.feed(stranger).json()["cold_start"])
    told = served.http.get("/v1/explain", params=query).json()["explanation"]
    assert "in_network" in {brought["source"] for brought in told["sources"]}
    assert told["score"]["basis"] == "value"
    events = served.http.get("/healthz").json()["events"]
    assert events["caught_up"]
    assert events["problem"] is None
    told = served.event_log.parent / "live" / "engagements"
    eventually(lambda: len(list(told.glob("*.parquet"))) > 0)
    assert pq.read_table(told)["user_id"].to_pylist() == [stranger]


def test_components_are_counted(served):
    """What each component did stands among Ray's metrics, whichever replica did it."""
    served.feed(3)
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted = "ray_rayfeed_component_runs_total{"
    deadline = time.monotonic() + 60
    while wanted not in (text := httpx.get(address, timeout=10).text):
        assert time.monotonic() < deadline, "no metrics of components after a minute"
        time.sleep(1)
    line = next(
        line
        for line in text.splitlines()
        if line.startswith(wanted) and 'component="age"' in line and 'outcome="ok"' in line
    )
    assert float(line.rsplit(" ", 1)[1]) >= 1
    assert "ray_rayfeed_component_ms_bucket{" in text


def test_a_bad_request_names_the_field(served):
    """422 and the name of the field reach the client."""
    reply = served.http.post("/v1/feed", json={"user_id": 1, "limt": 3})
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "limt"]


def test_overload_is_a_503_with_retry_after(served):
    """HAProxy passes a refusal on as it is; everybody else gets a page."""
    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(served.feed, range(1, 97)))
    refused = [reply for reply in replies if reply.status_code != 200]
    assert refused
    assert {reply.status_code for reply in refused} == {503}
    assert {reply.headers["Retry-After"] for reply in refused} == {"3"}
    assert served.feed(1).status_code == 200


def test_zoom_over_http(served):
    """Coarse, all are on the post's subject; fine, its near duplicate is first; pages zoom too."""
    subject = served.similar(POST, zoom="coarse")["posts"]
    assert {post["topic_ids"][0] for post in subject} == {subject[0]["topic_ids"][0]}
    assert served.similar(POST, zoom="fine")["posts"][0]["post_id"] == twin(POST)
    page = served.feed(3, zoom="fine").json()
    assert page["degraded"] == []
    assert {tuple(post["sources"]) for post in page["posts"]} == {("prefix",)}
    query = {"user_id": 3, "post_id": page["posts"][0]["post_id"], "zoom": "fine"}

    def told() -> str:
        return served.http.get("/v1/explain", params=query).json()["explanation"]["summary"]

    # A page is written down behind its answer; until then it is explained as the next page, which
    # the posts scored for it would make.
    eventually(lambda: "like what was liked" in told())

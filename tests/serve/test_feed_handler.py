"""The HTTP surface over a real tiny bundle, in one process without Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import check, load
from pipelines.data.job import DataConfig, prepare
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve.api import Score
from serve.deployments import local_models
from serve.feed_handler import FeedHandler, Limits
from serve.routes import create_app
from serve.services import Models, version
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from tests.conftest import UNKNOWN_USER
from train.bundle import Bundle
from train.rows import read_examples

Test = Callable[[httpx.AsyncClient, FeedHandler], Awaitable[None]]
FEED = load(Path(__file__).parents[2] / "configs" / "feed.yaml", FeedConfig)


@pytest.fixture(scope="module")
def models(bundle: Bundle) -> Models:
    """The bundle's models in this process; a test that batches makes its own."""
    return local_models(bundle)


@asynccontextmanager
async def serving(
    bundle: Bundle, models: Models, folder: Path, feed: FeedConfig = FEED, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, FeedHandler]]:
    """A client of a handler that serves `bundle`, closed as the app's shutdown would."""
    log = EventLog(folder, "test", max_age_s=60)
    handler = FeedHandler(Pipeline.build(feed), log, clock="log", **settings)
    handler.use(bundle, models)
    transport = httpx.ASGITransport(create_app(handler))
    async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
        try:
            yield client, handler
        finally:
            await handler.close()


@pytest.fixture
def run(bundle, models, tmp_path) -> Callable[..., None]:
    """Run an async test against a fresh handler."""

    def run(test: Test, models: Models = models, folder: Path = tmp_path, **settings: Any) -> None:
        async def body() -> None:
            async with serving(bundle, models, folder, **settings) as (client, handler):
                await test(client, handler)

        asyncio.run(body())

    return run


def test_a_request_changes_what_the_feed_allows(bundle, models, tmp_path):
    """Overrides count for one page and its explanation; others are a 422 that says why."""
    feed = check(
        FEED.model_dump() | {"allow": ["post_filters.author_cap.max_posts"]}, FeedConfig, ""
    )

    async def test(client, _):
        body = {"user_id": 1, "limit": 10}
        asked = {"post_filters.author_cap.max_posts": 1}
        posts = (await client.post("/v1/feed", json={**body, "overrides": asked})).json()["posts"]
        assert len({post["author_id"] for post in posts}) == len(posts)
        query = {"user_id": 1, "post_id": posts[0]["post_id"], "overrides": json.dumps(asked)}
        assert (await client.get("/v1/explain", params=query)).status_code == 200
        for wrong, said in (
            ({"filters.age": None}, "filters.age: not a setting that a request may change"),
            ({"post_filters.author_cap.max_posts": 0}, "greater than 0, got 0"),
        ):
            reply = await client.post("/v1/feed", json={**body, "overrides": wrong})
            assert reply.status_code == 422
            assert said in reply.json()["detail"][0]["msg"]
        query["overrides"] = "{"
        assert (await client.get("/v1/explain", params=query)).status_code == 422

    async def body() -> None:
        async with serving(bundle, models, tmp_path, feed=feed) as (client, handler):
            await test(client, handler)

    asyncio.run(body())


def test_what_components_did_is_told(run):
    """Of every page each component's turn, and afterwards its side effects'."""
    told = []

    async def test(client, handler):
        reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 5})
        await handler._feeds["timeline"].drain()
        await asyncio.sleep(0)
        assert reply.json()["arms"] == {}
        (_, page), (feed, after) = told
        assert feed == "timeline"
        assert {entry.key for entry in page} == {
            c.key for c in handler._feeds["timeline"].components if c.stage != "side_effects"
        }
        assert [(entry.key, entry.num_in, entry.outcome) for entry in after] == [
            ("side_effects.impressions", 5, "ok")
        ]

    run(test, observe=lambda *what: told.append(what))


def test_a_known_viewer_gets_a_ranked_page(run):
    """A page has as many posts as asked, best first, each once, with where each comes from."""

    async def test(client, _):
        reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 7})
        assert reply.status_code == 200
        feed = reply.json()
        assert (feed["cold_start"], feed["degraded"]) == (False, [])
        posts = feed["posts"]
        assert [post["rank"] for post in posts] == list(range(1, 8))
        assert len({post["post_id"] for post in posts}) == 7
        scores = [post["score"] for post in posts]
        assert scores == sorted(scores, reverse=True)
        for post in posts:
            assert post["sources"]
            assert post["reason"]
            assert len(post["p_action"]) == 19
            assert 0 < post["p_action"]["favorite"] < 1
            assert set(post["adjustments"]) == {"author_diversity", "out_of_network"}

    run(test)


def test_an_unknown_viewer_gets_a_cold_start_feed(run):
    """A viewer nobody has heard of gets popular posts and is told so."""

    async def test(client, _):
        feed = (await client.post("/v1/feed", json={"user_id": UNKNOWN_USER})).json()
        assert feed["cold_start"]
        assert feed["degraded"] == []
        assert len(feed["posts"]) == 20
        assert all(post["sources"] == ["popular"] for post in feed["posts"])

    run(test)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": "me"}, "user_id"),
        ({"user_id": 0}, "user_id"),
        ({"user_id": 2**63}, "user_id"),
        ({"user_id": 1, "limit": 0}, "limit"),
        ({"user_id": 1, "limit": 101}, "limit"),
        ({"user_id": 1, "limt": 5}, "limt"),
        ({"user_id": 1, "surface": 16}, "surface"),
        ({"user_id": 1, "exclude_video": "perhaps"}, "exclude_video"),
        ({"user_id": 1, "topic_ids": [1] * 101}, "topic_ids"),
        ({"user_id": 1, "excluded_topic_ids": 4}, "excluded_topic_ids"),
        ({"user_id": 1, "seen_ids": [1] * 10_001}, "seen_ids"),
    ],
)
def test_a_bad_request_is_told_which_field(run, body, field):
    """A missing, wrong, out-of-range or unknown field is answered 422 and named."""

    async def test(client, _):
        reply = await client.post("/v1/feed", json=body)
        assert reply.status_code == 422
        assert [problem["loc"][-1] for problem in reply.json()["detail"]] == [field]

    run(test)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", r'"\ud800"'])
def test_a_value_that_json_cannot_hold_is_told_which_field(run, value):
    """What cannot be repeated in the answer is answered 422 all the same."""

    async def test(client, _):
        headers = {"Content-Type": "application/json"}
        body = f'{{"user_id": {value}}}'
        reply = await client.post("/v1/feed", content=body, headers=headers)
        assert reply.status_code == 422
        (problem,) = reply.json()["detail"]
        assert problem["loc"] == ["body", "user_id"]
        assert problem["msg"]
        assert problem["type"]

    run(test)


def test_a_bad_explain_request_is_told_which_field(run):
    """The same holds for the parameters of an URL."""

    async def test(client, _):
        reply = await client.get("/v1/explain", params={"user_id": 1, "post": 3})
        assert reply.status_code == 422
        assert {p["loc"][-1] for p in reply.json()["detail"]} == {"post_id", "post"}

    run(test)


@pytest.mark.parametrize("broken", ["rank", "value"])
def test_a_failed_ranker_means_popularity_order(run, models, broken):
    """Without predictions or their worth the page comes by popularity, flagged `degraded`."""

    async def fail(_):
        raise ConnectionError("no replica")

    async def test(client, handler):
        feed = (await client.post("/v1/feed", json={"user_id": 1, "limit": 10})).json()
        assert feed["degraded"] == [{"rank": "scorers.actions", "value": "scorers.value"}[broken]]
        assert not feed["cold_start"]
        assert len(feed["posts"]) == 10
        assert all("popularity" in post["reason"] for post in feed["posts"])
        assert (await handler.health()).failures == {feed["degraded"][0]: 1}

    run(test, models=replace(models, **{broken: fail}))


def test_a_failed_retriever_leaves_the_other_sources(run, models):
    """Without retrieval there are still posts, flagged `degraded`."""

    async def fail(_):
        raise ConnectionError("no replica")

    async def test(client, _):
        feed = (await client.post("/v1/feed", json={"user_id": 1})).json()
        assert feed["degraded"] == ["sources.two_tower"]
        assert feed["posts"]

    run(test, models=replace(models, search=fail))


def test_more_requests_than_the_limit_are_refused_at_once(run, models):
    """A request too many gets 503 with Retry-After, and the others their pages."""
    gate = asyncio.Event()

    async def slow(ranking):
        await gate.wait()
        return await models.rank(ranking)

    async def test(client, handler):
        taken = [asyncio.create_task(client.post("/v1/feed", json={"user_id": n})) for n in (1, 2)]
        while (await handler.health()).in_flight < 2:
            await asyncio.sleep(0.001)
        refused = await client.post("/v1/feed", json={"user_id": 3})
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "7"
        assert (await client.get("/healthz")).status_code == 200
        gate.set()
        assert [(await reply).status_code for reply in taken] == [200, 200]
        assert (await client.post("/v1/feed", json={"user_id": 3})).status_code == 200

    limits = Limits(max_in_flight=2, retry_after_s=7)
    run(test, models=replace(models, rank=slow), limits=limits)


def test_the_surface_of_a_request_is_used(run, models, tmp_path):
    """The ranker predicts for the surface asked for, explain too, and the event log says it."""
    asked = []

    async def rank(ranking):
        asked.append(ranking.surface)
        return await models.rank(ranking)

    async def test(client, _):
        reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 2, "surface": 5})
        assert reply.status_code == 200
        query = {"user_id": 1, "post_id": reply.json()["posts"][0]["post_id"], "surface": 5}
        assert (await client.get("/v1/explain", params=query)).status_code == 200

    run(test, models=replace(models, rank=rank))
    assert asked == [5, 5]
    rows = pq.read_table(next(tmp_path.glob("*.parquet")))
    assert rows["surface"].to_pylist() == [5, 5]


def test_the_next_page_shows_something_else(run):
    """What was shown is not shown again."""

    async def test(client, _):
        pages = []
        for _page in range(3):
            feed = (await client.post("/v1/feed", json={"user_id": 2, "limit": 5})).json()
            pages.append({post["post_id"] for post in feed["posts"]})
            await asyncio.sleep(0.01)  # impressions are recorded after the reply
        assert len(set.union(*pages)) == 15

    run(test)


def test_a_request_says_what_its_page_may_hold(run, bundle):
    """No page goes against the request, and explain tells by which wish a post is missing."""
    posts = bundle.posts.to_pylist()
    topics = {post["post_id"]: post["topic_ids"] or [] for post in posts}
    videos = {post["post_id"] for post in posts if post["duration_s"]}

    async def test(client, _):
        first = (await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json()["posts"]
        seen = [post["post_id"] for post in first]
        (topic, *_) = [t for one in seen for t in topics[one]]
        for wish, holds in (
            ({"seen_ids": seen}, lambda one: one not in seen),
            ({"topic_ids": [topic]}, lambda one: topic in topics[one]),
            ({"excluded_topic_ids": [topic]}, lambda one: topic not in topics[one]),
            ({"exclude_video": True}, lambda one: one not in videos),
        ):
            reply = await client.post("/v1/feed", json={"user_id": 2, "limit": 9, **wish})
            assert reply.status_code == 200
            assert all(holds(post["post_id"]) for post in reply.json()["posts"])
        query = {"user_id": 1, "post_id": seen[0], "excluded_topic_ids": topics[seen[0]] or [1]}
        await asyncio.sleep(0.01)
        told = (await client.get("/v1/explain", params=query)).json()["explanation"]
        assert told["dropped_by"] == ["filters.topics"] if topics[seen[0]] else []

    run(test)


def test_labels_drop_and_hide_posts(run):
    """A labelled post is gone, one under a milder label comes behind a notice that is explained."""
    rows = [{"kind": "post", "id": post_id, "label": "spam"} for post_id in range(1, 800, 2)]
    rows += [{"kind": "post", "id": post_id, "label": "disputed"} for post_id in range(2, 800, 2)]
    labels = LabelStore(pa.Table.from_pylist(rows))

    async def test(client, _):
        feed = (await client.post("/v1/feed", json={"user_id": 1, "limit": 9})).json()
        assert len(feed["posts"]) == 9
        for post in feed["posts"]:
            assert post["post_id"] % 2 == 0
            assert post["visibility"] == "interstitial"
            assert post["reason"].startswith("behind a notice: post_disputed; ")
        one = {"user_id": 1, "post_id": feed["posts"][0]["post_id"]}
        told = (await client.get("/v1/explain", params=one)).json()["explanation"]
        assert told["notes"] == ["behind a notice: post_disputed"]

    run(test, labels=labels)


def test_every_served_post_is_explained_where_it_was(run):
    """Asked after the page was shown, explain still says why each post was on it."""

    async def test(client, _):
        for user_id in (3, UNKNOWN_USER):
            for _page in range(2):
                feed = (await client.post("/v1/feed", json={"user_id": user_id})).json()
                await asyncio.sleep(0.01)
            for post in feed["posts"]:
                query = {"user_id": user_id, "post_id": post["post_id"]}
                reply = (await client.get("/v1/explain", params=query)).json()
                told = reply["explanation"]
                assert (told["outcome"], told["place"]) == ("served", post["rank"])
                assert told["score"]["score"] == pytest.approx(post["score"])
                assert reply["cold_start"] == (user_id == UNKNOWN_USER)

    run(test)


def test_explaining_is_not_showing(run, tmp_path):
    """Explain writes no impressions; a post that does not exist is 404."""

    async def test(client, handler):
        reply = await client.get("/v1/explain", params={"user_id": 1, "post_id": 5})
        assert reply.status_code == 200
        missing = await client.get("/v1/explain", params={"user_id": 1, "post_id": 10**9})
        assert missing.status_code == 404
        assert "1000000000" in missing.json()["detail"]

    run(test)
    assert list(tmp_path.iterdir()) == []


def test_served_pages_are_in_the_event_log(run, tmp_path):
    """After a shutdown the log has a row for each served post, in order, by the log's clock."""
    served = []

    async def test(client, _):
        for user_id in (1, 2, UNKNOWN_USER):
            reply = await client.post("/v1/feed", json={"user_id": user_id, "limit": 4})
            served.append(reply.json())

    run(test)
    rows = pq.read_table(next(tmp_path.glob("*.parquet"))).to_pylist()
    assert [row["post_id"] for row in rows] == [
        post["post_id"] for feed in served for post in feed["posts"]
    ]
    assert [row["position"] for row in rows] == [0, 1, 2, 3] * 3
    assert {row["request_id"] for row in rows} == {feed["request_id"] for feed in served}
    assert all(row["shown_at_ms"] >= feed["model"]["as_of_ms"] for row in rows for feed in served)


def test_the_data_job_reads_the_event_log_back(run, prepared, tmp_path):
    """Served impressions are input for the next training: every row, none refused."""
    log = tmp_path / "events"

    async def test(client, _):
        for user_id in (1, 2, 2, UNKNOWN_USER):
            await client.post("/v1/feed", json={"user_id": user_id, "limit": 4})

    run(test, folder=log)
    (log / ".events-killed-000000.parquet.unfinished").write_bytes(b"PAR1 half a file")
    reader = {"name": "logs", "events": str(log), "posts": str(prepared / "posts.parquet")}
    split = {"validate_from": date(2100, 1, 1), "test_from": date(2100, 1, 2)}
    values = {"name": "served", "out": str(tmp_path / "out"), "reader": reader, "split": split}
    prepare(check(values, DataConfig, place="test"))
    examples = read_examples(tmp_path / "out", "train").to_pylist()
    by_viewer = {
        user_id: [p for row in examples if row["user_id"] == user_id for p in row["post_id"]]
        for user_id in (1, 2, UNKNOWN_USER)
    }
    served = [pq.read_table(path) for path in sorted(log.glob("*.parquet"))]
    for user_id, post_id in by_viewer.items():
        rows = [row for table in served for row in table.to_pylist() if row["user_id"] == user_id]
        assert post_id == [row["post_id"] for row in rows]
    assert all(observed == 0 for row in examples for observed in row["observed"])


def test_another_bundle_takes_over_between_requests(run, bundle, models):
    """After `use`, answers name the new bundle; a refused one is reported by /healthz."""

    async def test(client, handler):
        before = (await client.get("/healthz")).json()
        assert before["status"] == "ok"
        handler.problem = "elsewhere: not a bundle"
        assert (await client.get("/healthz")).json()["status"] == "stale"
        other = replace(bundle, path="other", card={**bundle.card, "note": "another"})
        handler.use(other, models)
        feed = (await client.post("/v1/feed", json={"user_id": 1})).json()
        assert feed["model"]["bundle"] == "other"
        assert feed["model"]["version"] != before["model"]["version"]
        assert (await client.get("/healthz")).json()["status"] == "ok"

    run(test)


def test_models_of_another_bundle_are_named_by_health(run, bundle, models):
    """Whichever deployment serves another version than the pages say, /healthz is stale."""
    mine, theirs = version(bundle), "0123456789ab"
    served = {"Retriever": [mine, mine], "Ranker": [mine, theirs], "Scorer": []}

    async def versions():
        return served

    async def test(client, _):
        health = (await client.get("/healthz")).json()
        assert health["status"] == "stale"
        assert health["problem"] == f"Ranker serves bundle version {theirs}, FeedHandler {mine}"
        assert health["versions"] == served
        served["Ranker"] = [mine, mine]
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["problem"]) == ("ok", None)

    run(test, models=replace(models, versions=versions))


def test_an_event_log_that_is_not_written_is_told_by_health(run, monkeypatch):
    """While impressions cannot be written /healthz says why, and is ok again afterwards."""

    def invalid(*_):
        raise pa.ArrowInvalid("no such type")

    async def test(client, handler):
        await client.post("/v1/feed", json={"user_id": 1})
        await asyncio.sleep(0.01)  # impressions are recorded after the reply
        with monkeypatch.context() as refusing:
            refusing.setattr(pq, "write_table", invalid)
            with pytest.raises(pa.ArrowInvalid):
                handler._event_log.flush()
        health = (await client.get("/healthz")).json()
        assert health["status"] == "unlogged"
        assert "ArrowInvalid('no such type') (0 impressions lost so far)" in health["problem"]
        handler._event_log.flush()
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["problem"]) == ("ok", None)

    run(test)


def test_metrics_written_later_do_not_make_another_version(bundle):
    """Replicas that loaded a bundle before and after its evaluation serve the same one."""
    evaluated = replace(bundle, card={**bundle.card, "metrics": {"auc": 0.7}})
    assert version(evaluated) == version(bundle)
    assert version(replace(bundle, card={**bundle.card, "as_of_ms": 1})) != version(bundle)


def test_openapi_names_every_route(run):
    """The documentation at /docs lists the routes with their models and errors."""

    async def test(client, _):
        assert (await client.get("/docs")).status_code == 200
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert set(paths) == {"/v1/feed", "/v1/explain", "/healthz"}
        assert {"200", "422", "503"} <= set(paths["/v1/feed"]["post"]["responses"])

    run(test)


def test_numbers_that_json_does_not_have_are_null():
    """NaN and infinity leave the server as null."""
    score = Score.model_validate(
        {
            "basis": "value",
            "terms": [],
            "value": np.nan,
            "base_score": np.float64(np.inf),
            "multipliers": {"x": np.nan},
            "score": 1.5,
            "notes": [],
        }
    )
    assert score.model_dump_json() == (
        '{"basis":"value","terms":[],"value":null,"base_score":null,'
        '"multipliers":{"x":null},"score":1.5,"notes":[]}'
    )

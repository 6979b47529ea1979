"""Four feeds behind one handler, over a bundle whose posts have texts and replies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import ConfigError, check, load
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.replay import requests
from serve import query_encoder
from serve.deployments import local_models
from serve.feed_handler import FeedHandler
from serve.routes import create_app
from serve.settings import Args
from serve.stores.event_log import EventLog
from train.bundle import Bundle

Test = Callable[[httpx.AsyncClient, FeedHandler], Awaitable[None]]
ROOT = Path(__file__).parents[2]
FEEDS = {name: load(ROOT / path, FeedConfig) for name, path in Args().feeds.items()}
WORDS = ("rain", "sun", "snow", "wind")
FOCAL = 10


def with_posts(bundle: Bundle, **columns: list[Any]) -> Bundle:
    """The bundle with other columns of its posts."""
    posts = bundle.posts
    for name, values in columns.items():
        at = posts.schema.get_field_index(name)
        posts = posts.set_column(
            at, posts.schema.field(at), pa.array(values, posts.schema.field(at).type)
        )
    other = replace(bundle, path="other")
    vars(other)["posts"] = posts
    return other


@pytest.fixture(scope="module")
def talking(bundle: Bundle) -> Bundle:
    """Posts that say "rain" and so on and their id; every tenth answers one before, up to FOCAL."""
    ids = bundle.posts["post_id"].to_pylist()
    texts = [f"{WORDS[n % 4]} over street {n}" for n in ids]
    answers = [n - 10 if n > FOCAL and n % 10 == 0 else None for n in ids]
    return with_posts(bundle, text=texts, reply_to_post_id=answers)


@pytest.fixture
def run(bundle, tmp_path) -> Callable[..., None]:
    """Run an async test against a fresh handler of all four feeds."""

    def run(test: Test, bundle: Bundle, **settings: Any) -> None:
        async def body() -> None:
            feeds = {name: Pipeline.build(config) for name, config in FEEDS.items()}
            log = EventLog(tmp_path, "test", max_age_s=60)
            handler = FeedHandler(feeds.pop("timeline"), log, clock="log", others=feeds, **settings)
            handler.use(bundle, models)
            transport = httpx.ASGITransport(create_app(handler))
            async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
                try:
                    await test(client, handler)
                finally:
                    await handler.close()

        models = local_models(bundle)
        asyncio.run(body())

    return run


def test_search_finds_posts_by_their_words(run, talking):
    """Only posts that say a word of the query, the one that says more of it first, explained."""

    async def test(client, _):
        asked = {"user_id": 2, "feed": "search", "query": "Rain 84", "limit": 30}
        feed = (await client.post("/v1/feed", json=asked)).json()
        assert (feed["feed"], feed["degraded"]) == ("search", [])
        assert feed["posts"][0]["post_id"] == 84
        assert "matches the search (words 1.0" in feed["posts"][0]["reason"]
        assert all(p["post_id"] % 4 == 0 for p in feed["posts"])
        assert {tuple(p["sources"]) for p in feed["posts"]} == {("text_search",)}
        again = (await client.post("/v1/feed", json=asked)).json()
        assert [p["post_id"] for p in again["posts"]] == [p["post_id"] for p in feed["posts"]]
        query = {"user_id": 2, "feed": "search", "query": "Rain 84", "post_id": 84, "limit": 30}
        told = (await client.get("/v1/explain", params=query)).json()["explanation"]
        assert (told["outcome"], told["place"]) == ("served", 1)
        absent = (await client.get("/v1/explain", params=query | {"post_id": 85})).json()
        assert absent["explanation"]["outcome"] == "not_retrieved"

    run(test, talking)


def test_a_conversation_is_the_replies_to_its_post(run, talking):
    """All replies at any depth, and explain follows one of them."""

    async def test(client, _):
        asked = {"user_id": 2, "feed": "conversations", "post_id": FOCAL, "limit": 100}
        feed = (await client.post("/v1/feed", json=asked)).json()
        ids = {p["post_id"] for p in feed["posts"]}
        assert (feed["feed"], feed["degraded"]) == ("conversations", [])
        assert ids
        assert ids <= set(range(20, 801, 10))
        first = feed["posts"][0]
        query = {"user_id": 2, "feed": "conversations", "focal_post_id": FOCAL, "limit": 100}
        reply = await client.get("/v1/explain", params=query | {"post_id": first["post_id"]})
        assert reply.json()["explanation"]["place"] == 1
        assert "reply" in first["reason"]

    run(test, talking)


def test_where_nobody_writes_there_is_nothing_to_find(run, bundle):
    """Of a log without texts and replies, search and conversations are empty, and not in error."""
    ids = bundle.posts["post_id"].to_pylist()
    silent = with_posts(bundle, text=[None] * len(ids), reply_to_post_id=[None] * len(ids))

    async def test(client, _):
        for asked in ({"feed": "search", "query": "rain"}, {"feed": "conversations", "post_id": 3}):
            reply = await client.post("/v1/feed", json={"user_id": 1, **asked})
            assert reply.status_code == 200
            assert (reply.json()["posts"], reply.json()["degraded"]) == ([], [])
        page = (await client.post("/v1/feed", json={"user_id": 1, "feed": "explore"})).json()
        assert page["posts"]
        assert page["degraded"] == []

    run(test, silent)


@pytest.mark.parametrize(
    ("asked", "field", "said"),
    [
        ({"feed": "serch"}, "feed", "no such feed: 'serch'; did you mean 'search'?"),
        ({"feed": "search"}, "query", "missing, and the feed search needs it"),
        ({"feed": "search", "query": ""}, "query", "at least 1 character"),
        ({"feed": "conversations"}, "post_id", "missing, and the feed conversations needs it"),
        ({"query": "rain"}, "query", "the feed timeline takes none; only search does"),
        ({"feed": "search", "query": "x", "post_id": 3}, "post_id", "only conversations does"),
        ({"feed": "explore", "post_id": 3}, "post_id", "the feed explore takes none"),
        ({"feed": "conversations", "post_id": 0}, "post_id", "greater than or equal to 1"),
    ],
)
def test_a_request_that_does_not_suit_its_feed_is_told_so(run, bundle, asked, field, said):
    """422 that names the field and says what is missing, too much, or meant."""

    async def test(client, _):
        reply = await client.post("/v1/feed", json={"user_id": 1, **asked})
        assert reply.status_code == 422
        (problem,) = reply.json()["detail"]
        assert problem["loc"][-1] == field
        assert said in problem["msg"]
        if "post_id" not in asked and asked.get("query") != "":
            query = {"user_id": 1, "post_id": 1, **asked}
            refused = await client.get("/v1/explain", params=query)
            assert refused.status_code == 422
            assert refused.json()["detail"][0]["loc"] == [field.replace("post_id", "focal_post_id")]

    run(test, bundle)


def test_pages_metrics_and_failures_tell_feeds_apart(run, talking, tmp_path):
    """The log's request ids, what is observed, and the failures of /healthz name the feed."""
    told = []

    async def test(client, handler):
        for asked in ({}, {"feed": "explore"}, {"feed": "search", "query": "sun"}):
            reply = await client.post("/v1/feed", json={"user_id": 4, "limit": 3, **asked})
            name = asked.get("feed", "timeline")
            request_id = reply.json()["request_id"]
            assert request_id.partition("/")[0] == name or name == "timeline"
            assert ("/" in request_id) == (name != "timeline")
        handler._feeds["search"].failures["sources.text_search"] += 1
        health = (await client.get("/healthz")).json()
        assert health["failures"] == {"search/sources.text_search": 1}

    run(test, talking, observe=lambda feed, trace: told.append((feed, len(trace))))
    assert sorted({feed for feed, _ in told}) == ["explore", "search", "timeline"]
    rows = pq.read_table(next(tmp_path.glob("*.parquet")))
    assert len(rows) == 9
    assert len(requests(tmp_path)) == 1
    assert [q.request_id.partition("/")[0] for q in requests(tmp_path, feed="explore")] == [
        "explore"
    ]


def test_search_goes_by_meaning_where_it_can(run, talking, monkeypatch):
    """With vectors of text and their encoder, posts are found that share no word with the query."""
    ids = talking.posts["post_id"].to_numpy()
    vectors = np.zeros((len(ids) + 1, 4), np.float32)
    vectors[:-1][np.arange(len(ids)), ids % 4] = 1.0
    other = replace(talking, card=talking.card | {"content": {"encoder": {}, "identity": "it"}})
    vars(other)["posts"] = talking.posts
    vars(other)["facts"] = replace(talking.facts, content=vectors)
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return np.array([[0, 0.6, 0.8, 0]] * len(texts), np.float16)

    monkeypatch.setattr(query_encoder, "Encoder", lambda _: encode)
    monkeypatch.setattr(query_encoder, "identity", lambda _: "it")

    async def test(client, _):
        asked = {"user_id": 2, "feed": "search", "query": "weather", "limit": 20}
        feed = (await client.post("/v1/feed", json=asked)).json()
        assert {p["post_id"] % 4 for p in feed["posts"]} == {2}
        assert all(p["sources"] == ["semantic_search"] for p in feed["posts"])
        assert "meaning 0.80" in feed["posts"][0]["reason"]

    run(test, other)
    assert encoded == ["weather"]  # once, though asked for twice


@pytest.mark.parametrize(
    ("content", "size", "said"),
    [
        (None, 0, "no vectors of text"),
        (None, 4, "does not say which encoder"),
        ({"encoder": {"name": "/nowhere"}, "identity": "x"}, 4, "gives other vectors here"),
    ],
)
def test_an_encoder_that_is_not_at_hand_is_said_once(content, size, said, caplog):
    """Search then goes by words alone: a warning says why, and no request fails."""
    encoder = query_encoder.QueryEncoder(content, size)
    with caplog.at_level(logging.WARNING, "ray.serve"):
        assert encoder("rain") is None
        assert encoder("rain") is None
    assert said in encoder.problem
    assert len(caplog.records) <= 1


def test_a_server_without_a_timeline_does_not_start():
    """The feed of requests that name none must be there; its near miss is named."""
    with pytest.raises(ConfigError, match=r"no 'timeline'.*did you mean 'timelin'"):
        check({"feeds": {"timelin": "configs/feed.yaml"}}, Args, "args")

"""What a request may ask for, and what it is told when it may not."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from configs import check
from pipelines.feed.bloom import BloomFilter
from pipelines.feed.discover import FeedConfig
from tests.serve.feed_server import FEED, serving, shown

BLOOM = {"bits": "/w==", "num_bits": 8, "num_hashes": 2}  # holds every post


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
        ({"user_id": 1, "served_ids": [0]}, 0),
        ({"user_id": 1, "country_code": "us"}, "country_code"),
        ({"user_id": 1, "bloom_filter_entries": [BLOOM] * 17}, "bloom_filter_entries"),
        ({"user_id": 1, "bloom_filter_entries": [BLOOM | {"num_bits": 9}]}, 0),
        ({"user_id": 1, "bloom_filter_entries": [BLOOM | {"bits": "A"}]}, "bits"),
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


def test_a_request_says_what_its_page_may_hold(run, bundle):
    """No page goes against the request, and explain tells by which wish a post is missing."""
    posts = bundle.posts.to_pylist()
    topics = {post["post_id"]: post["topic_ids"] or [] for post in posts}
    videos = {post["post_id"] for post in posts if post["duration_s"]}

    async def test(client, handler):
        first = (await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json()["posts"]
        seen = [post["post_id"] for post in first]
        (topic, *_) = [t for one in seen for t in topics[one]]
        for wish, holds in (
            ({"seen_ids": seen}, lambda one: one not in seen),
            ({"served_ids": seen, "is_bottom_request": True}, lambda one: one not in seen),
            ({"bloom_filter_entries": [entry(seen)]}, lambda one: one not in seen),
            ({"topic_ids": [topic]}, lambda one: topic in topics[one]),
            ({"excluded_topic_ids": [topic]}, lambda one: topic not in topics[one]),
            ({"exclude_video": True}, lambda one: one not in videos),
        ):
            reply = await client.post("/v1/feed", json={"user_id": 2, "limit": 9, **wish})
            assert reply.status_code == 200
            assert all(holds(post["post_id"]) for post in reply.json()["posts"])
        query = {"user_id": 1, "post_id": seen[0], "excluded_topic_ids": topics[seen[0]] or [1]}
        await shown(handler)
        told = (await client.get("/v1/explain", params=query)).json()["explanation"]
        assert told["dropped_by"] == ["filters.topics"] if topics[seen[0]] else []

    run(test)


def entry(post_ids: list[int]) -> dict[str, Any]:
    """A Bloom filter of posts as a client sends it."""
    held = BloomFilter.of(post_ids, 0.001)
    bits = base64.b64encode(held.bits).decode()
    return {"bits": bits, "num_bits": held.num_bits, "num_hashes": held.num_hashes}


def test_explain_takes_the_same_wishes_as_the_feed(run):
    """A post that the client's Bloom filter or loaded posts leave out is explained by them."""

    async def test(client, _):
        plain = (await client.post("/v1/feed", json={"user_id": 1, "limit": 1})).json()
        one = {"user_id": 4, "post_id": plain["posts"][0]["post_id"]}
        for wish, by in (
            ({"bloom_filter_entries": json.dumps(BLOOM)}, "filters.previously_seen"),
            (
                {"served_ids": one["post_id"], "is_bottom_request": True},
                "filters.previously_served",
            ),
        ):
            told = (await client.get("/v1/explain", params=one | wish)).json()["explanation"]
            assert by in told["dropped_by"]

    run(test)


def test_openapi_names_every_route(run):
    """The documentation at /docs lists the routes with their models and errors."""

    async def test(client, _):
        assert (await client.get("/docs")).status_code == 200
        told = (await client.get("/openapi.json")).json()
        paths = told["paths"]
        diagnostics = {
            f"/v1/diagnostics/{name}"
            for name in ("post/{post_id}", "author/{author_id}", "viewer/{user_id}")
        }
        routes = {"/v1/feed", "/v1/events", "/v1/explain", "/v1/similar", "/healthz"}
        assert set(paths) == routes | diagnostics
        assert {"200", "422", "503"} <= set(paths["/v1/feed"]["post"]["responses"])
        events = told["components"]["schemas"]["EventsRequest"]["properties"]["events"]["items"]
        kinds = [kind["properties"]["kind"]["const"] for kind in events["oneOf"]]
        assert kinds == ["post", "deletion", "engagement"]

    run(test)

"""A page over a real tiny bundle, in one process without Ray: what is on it, and with what down."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from configs import check
from pipelines.feed.discover import FeedConfig
from serve.admission import Limits
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from tests.conftest import UNKNOWN_USER
from tests.serve.feed_server import FEED, shown
from train.bundle import load


def test_what_components_did_is_told(run):
    """Of every page each component's turn, and afterwards its side effects'."""
    told = []

    async def test(client, handler):
        reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 5})
        await shown(handler)
        assert reply.json()["arms"] == {}
        (_, page), (feed, after) = told
        assert feed == "timeline"
        assert {entry.key for entry in page} == {
            c.key for c in handler._feeds["timeline"].components if c.stage != "side_effects"
        }
        told_after = {entry.key: (entry.num_in, entry.outcome) for entry in after}
        assert told_after["side_effects.impressions"] == (5, "ok")

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

    async def test(client, handler):
        reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 2, "surface": 5})
        assert reply.status_code == 200
        await shown(handler)  # explained is what was recorded
        query = {"user_id": 1, "post_id": reply.json()["posts"][0]["post_id"], "surface": 5}
        assert (await client.get("/v1/explain", params=query)).status_code == 200

    run(test, models=replace(models, rank=rank))
    assert asked == [5, 5]
    rows = pq.read_table(next(tmp_path.glob("*.parquet")))
    assert rows["surface"].to_pylist() == [5, 5]


def test_a_post_says_what_it_answers_and_whose_it_is(run, bundle, models, tmp_path):
    """Network, threads and pointers are told as the feed knew them."""
    pointers = {
        "reply_to_post_id": (1, 2),
        "repost_of_post_id": (2, 1),
        "quote_of_post_id": (0, -1),
    }
    posts, ids = bundle.posts, bundle.posts["post_id"].to_pylist()
    for name, (kind, step) in pointers.items():  # every fourth post points at a plain one
        points = pa.array([one + step if one % 4 == kind else None for one in ids], pa.int64())
        posts = posts.set_column(posts.schema.get_field_index(name), name, points)
    shutil.copytree(bundle.folder, tmp_path / "threads")
    pq.write_table(posts, tmp_path / "threads" / "tables" / "posts.parquet")
    threads = load(tmp_path / "threads")

    async def test(client, handler):
        handler.use(threads, models)
        feed = (await client.post("/v1/feed", json={"user_id": 1, "limit": 100})).json()
        followed = bundle.follows.filter(pc.equal(bundle.follows["follower_id"], 1))
        authors = {1, *followed["followee_id"].to_pylist()}
        rows = {row["post_id"]: row for row in threads.posts.to_pylist()}
        for post in feed["posts"]:
            assert post["in_network"] == (post["author_id"] in authors)
            assert post["visibility_reason"] is None
            for pointer in pointers:
                assert post[pointer] == (rows[post["post_id"]][pointer] or 0)
            assert post["conversation_id"] == (post["reply_to_post_id"] or post["post_id"])
            repeated = rows.get(post["repost_of_post_id"], {"author_id": 0})
            assert post["repost_author_id"] == repeated["author_id"]
        for told in ("in_network", *pointers):
            assert {bool(post[told]) for post in feed["posts"]} == {True, False}

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
            assert post["visibility_reason"] == "post_disputed"
        one = {"user_id": 1, "post_id": feed["posts"][0]["post_id"]}
        told = (await client.get("/v1/explain", params=one)).json()["explanation"]
        assert told["notes"] == ["behind a notice: post_disputed"]

    run(test, labels=labels)


def test_preferences_change_what_a_viewer_gets(run, bundle):
    """Blocked authors and what subscribers pay for are gone, for that viewer alone."""
    authors = np.unique(bundle.posts["author_id"].drop_null().to_numpy()).tolist()
    said = [
        {"user_id": 1, "blocked_author_ids": authors[:20], "subscribed_author_ids": authors[25:]}
    ]
    rows = [{"kind": "author", "id": author, "label": "for_subscribers"} for author in authors[20:]]
    settings = {
        "preferences": PreferenceStore(pa.Table.from_pylist(said)),
        "labels": LabelStore(pa.Table.from_pylist(rows)),
    }

    async def test(client, _):
        for user_id, allowed in ((1, authors[25:]), (2, authors[:20])):
            feed = (await client.post("/v1/feed", json={"user_id": user_id, "limit": 5})).json()
            assert feed["posts"]
            assert {post["author_id"] for post in feed["posts"]} <= {*allowed, 0, user_id}

    run(test, **settings)


AUDITED = check(FEED.model_dump() | {"side_effects": {"audit": {"share": 1}}}, FeedConfig, "")


def test_a_share_of_requests_is_audited(run, tmp_path):
    """Every sampled request is written down: its bundle, and what was scored for it."""

    async def test(client, _):
        pages.append((await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json())

    pages: list[dict[str, Any]] = []
    log = EventLog(tmp_path / "audits", "test", name="audits", max_age_s=60)
    run(test, feed=AUDITED, audit_log=log)
    (page,), rows = pages, pq.read_table(next((tmp_path / "audits").glob("audits-*.parquet")))
    assert set(rows["request_id"].to_pylist()) == {page["request_id"]}
    assert set(rows["bundle"].to_pylist()) == {page["model"]["version"]}
    assert {post["post_id"] for post in page["posts"]} <= set(rows["post_id"].to_pylist())


def test_an_audit_without_a_log_is_a_failure(run):
    """Who asks for audits and says not where to is told; the page comes all the same."""

    async def test(client, handler):
        page = (await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json()
        assert len(page["posts"]) == 5
        await shown(handler)
        assert (await handler.health()).failures == {"side_effects.audit": 1}

    run(test, feed=AUDITED)


def test_a_page_has_slots_where_the_feed_says(run, bundle):
    """With suggestions of strangers that the viewer likes; not again while the kind rests."""
    slots = [
        {"kind": "who_to_follow", "position": 3, "fatigue_s": 3600},
        {"kind": "prompt", "position": 0},
    ]
    feed = check(FEED.model_dump() | {"slots": slots}, FeedConfig, "")
    follows = bundle.follows.to_pylist()

    async def test(client, _):
        pages = [
            (await client.post("/v1/feed", json={"user_id": 1, "limit": limit})).json()
            for limit in (5, 5, 2)
        ]
        kinds = [[(slot["kind"], slot["position"]) for slot in page["slots"]] for page in pages]
        assert kinds == [[("prompt", 0), ("who_to_follow", 3)], [("prompt", 0)], [("prompt", 0)]]
        prompt, suggested = (slot["author_ids"] for slot in pages[0]["slots"])
        followed = {row["followee_id"] for row in follows if row["follower_id"] == 1}
        assert prompt == []
        assert suggested
        assert not followed & {1, *suggested}
        stranger = (await client.post("/v1/feed", json={"user_id": UNKNOWN_USER})).json()
        assert [slot["kind"] for slot in stranger["slots"]] == ["prompt"]

    run(test, feed=feed)

"""The HTTP surface over a real tiny bundle, in one process without Ray."""

from __future__ import annotations

import asyncio
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
from serve.api_explain import Score
from serve.models import version
from serve.stores.event_log import EventLog
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from serve.stores.watched import Watched
from tests.conftest import UNKNOWN_USER
from tests.serve.feed_server import FEED, serving


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

    async def test(client, _):
        reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 2, "surface": 5})
        assert reply.status_code == 200
        await asyncio.sleep(0.01)  # explained is what was recorded, which is after the reply
        query = {"user_id": 1, "post_id": reply.json()["posts"][0]["post_id"], "surface": 5}
        assert (await client.get("/v1/explain", params=query)).status_code == 200

    run(test, models=replace(models, rank=rank))
    assert asked == [5, 5]
    rows = pq.read_table(next(tmp_path.glob("*.parquet")))
    assert rows["surface"].to_pylist() == [5, 5]


def test_a_post_says_what_it_answers_and_whose_it_is(run, bundle):
    """Network, threads and pointers are told as the feed knew them."""

    async def test(client, _):
        feed = (await client.post("/v1/feed", json={"user_id": 1, "limit": 20})).json()
        followed = bundle.follows.filter(pc.equal(bundle.follows["follower_id"], 1))
        authors = {1, *followed["followee_id"].to_pylist()}
        rows = {row["post_id"]: row for row in bundle.posts.to_pylist()}
        for post in feed["posts"]:
            assert post["in_network"] == (post["author_id"] in authors)
            assert post["visibility_reason"] is None
            for pointer in ("reply_to_post_id", "repost_of_post_id", "quote_of_post_id"):
                assert post[pointer] == (rows[post["post_id"]][pointer] or 0)
            if not post["reply_to_post_id"]:
                assert post["conversation_id"] == post["post_id"]
            if post["repost_of_post_id"]:
                assert post["repost_author_id"] == rows[post["repost_of_post_id"]]["author_id"]

    run(test)


def test_a_post_that_no_source_brought_has_its_similarity(bundle, models, tmp_path):
    """It is what the source ranks by, below that of the last one in; null if it cannot be told."""
    few = {"two_tower": {"num_posts": 5}, "popular": {"num_posts": 5}, "in_network": None}
    feed = check(FEED.model_dump() | {"sources": few}, FeedConfig, "")

    async def broken(_):
        raise ConnectionError("the index is down")

    async def body() -> None:
        async with serving(bundle, models, tmp_path, feed=feed) as (client, handler):
            told = []
            for post_id in range(1, 15):
                query = {"user_id": 1, "post_id": post_id}
                told.append((await client.get("/v1/explain", params=query)).json()["explanation"])
            far = [one for one in told if one["outcome"] == "not_retrieved"]
            assert far
            for one in far:
                last = {brought["source"]: brought for brought in one["last_in"]}["two_tower"]
                assert -1 <= one["similarity"] <= last["value"]
                assert f"its similarity is {one['similarity']:.2f}" in one["summary"]
            assert all(one["similarity"] is None for one in told if one not in far)
            handler.use(bundle, replace(models, similarity=broken))
            query["post_id"] = far[0]["post_id"]
            reply = await client.get("/v1/explain", params=query)
            assert reply.status_code == 200
            assert reply.json()["explanation"]["similarity"] is None

    asyncio.run(body())


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


def test_what_holds_new_posts_up_is_named_by_health(run, models):
    """A replica of the models that cannot learn of posts makes /healthz say so, until it can."""
    held_up = {"Retriever": ["new posts wait: no space", "new posts wait: no space"], "Ranker": []}

    async def problems():
        return held_up

    async def test(client, _):
        health = (await client.get("/healthz")).json()
        said = (health["status"], health["problem"])
        assert said == ("behind", "Retriever: new posts wait: no space")
        held_up["Retriever"] = []
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["problem"]) == ("ok", None)

    run(test, models=replace(models, problems=problems))


def test_metrics_written_later_do_not_make_another_version(bundle):
    """Replicas that loaded a bundle before and after its evaluation serve the same one."""
    evaluated = replace(bundle, card={**bundle.card, "metrics": {"auc": 0.7}})
    assert version(evaluated) == version(bundle)
    assert version(replace(bundle, card={**bundle.card, "as_of_ms": 1})) != version(bundle)


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
            "numbers": {"field": {"parts": (0.5, np.nan), "worth": np.nan}},
        }
    )
    assert score.model_dump_json() == (
        '{"basis":"value","terms":[],"value":null,"base_score":null,'
        '"multipliers":{"x":null},"score":1.5,"notes":[],"numbers":{"field":{"parts":[0.5,null],"worth":null}}}'
    )


def test_next_pages_are_made_from_the_cache_and_explained_as_they_were(run, models):
    """They hold other posts, need no search and no ranking, and explain repeats each of them.

    Explaining writes nothing: the cache is as it was, and so is the next page.
    """
    asked = []

    async def rank(ranking):
        asked.append(len(ranking.post_id))
        return await models.rank(ranking)

    async def test(client, handler):
        pages = []
        for _ in range(4):
            feed = (await client.post("/v1/feed", json={"user_id": 3, "limit": 5})).json()
            assert feed["degraded"] == []
            pages.append(feed["posts"])
            await asyncio.sleep(0.01)
        ids = [post["post_id"] for page in pages for post in page]
        assert len(set(ids)) == len(ids) == 20
        assert len(asked) == 1
        assert all("cached_posts" not in post["sources"] for post in pages[0])
        assert all("cached_posts" in post["sources"] for page in pages[1:] for post in page)
        held = dict(handler._candidates._entries)
        for number, page in enumerate(pages):
            for post in page:
                query = {"user_id": 3, "post_id": post["post_id"], "limit": 5}
                told = (await client.get("/v1/explain", params=query)).json()["explanation"]
                assert (told["outcome"], told["place"]) == ("served", post["rank"])
                assert told["score"]["score"] == pytest.approx(post["score"], rel=1e-5)
                sources = {brought["source"]: brought["meaning"] for brought in told["sources"]}
                assert ("cached_posts" in sources) == (number > 0)
        assert handler._candidates._entries == held

    run(test, models=replace(models, rank=rank))


def test_another_bundle_makes_pages_anew(run, bundle, models):
    """What the models before predicted is nothing that those after them say."""

    async def test(client, handler):
        for path, cached in (("a", False), ("a", True), ("b", False), ("b", True)):
            if handler._serving.model.bundle != path:
                handler.use(replace(bundle, path=path, card={**bundle.card, "note": path}), models)
            feed = (await client.post("/v1/feed", json={"user_id": 3, "limit": 5})).json()
            assert ["cached_posts" in post["sources"] for post in feed["posts"]] == [cached] * 5
            await asyncio.sleep(0.01)

    run(test)


def test_a_cache_of_no_bytes_changes_nothing_but_the_work(run):
    """With and without the cache the same pages come, but for what a later instant changes."""
    pages: list[list[int]] = []

    async def test(client, _):
        for _page in range(3):
            feed = (await client.post("/v1/feed", json={"user_id": 4, "limit": 5})).json()
            pages.append([post["post_id"] for post in feed["posts"]])
            await asyncio.sleep(0.01)

    run(test)
    run(test, limits=Limits(cached_bytes=0))
    assert pages[:3] == pages[3:]


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


def test_a_bad_file_of_labels_is_told_by_health(run, tmp_path):
    """The labels before hold, and /healthz says why."""
    path = tmp_path / "labels.jsonl"
    path.write_text('{"kind": "post", "id": 1, "label": "spam"}\n')
    labels = Watched(str(path), LabelStore.read, every_s=0.0)

    async def test(client, _):
        assert (await client.get("/healthz")).json()["status"] == "ok"
        path.write_text('{"kind": "post", "id": 1, "label": "sapm"}\n')
        health: dict[str, Any] = {}
        for _ in range(200):
            await client.post("/v1/feed", json={"user_id": 1})
            health = (await client.get("/healthz")).json()
            if health["problem"]:
                break
        assert health["status"] == "stale"
        assert "did you mean 'spam'?" in health["problem"]
        assert str(path) in health["problem"]

    run(test, folder=tmp_path / "log", labels=labels)


def test_a_share_of_requests_is_audited(run, tmp_path):
    """With a log for it every sampled request is written down; without one that is a failure."""
    feed = check(FEED.model_dump() | {"side_effects": {"audit": {"share": 1}}}, FeedConfig, "")

    async def test(client, handler):
        feed = (await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json()
        await handler._feeds["timeline"].drain()
        if handler._audit_log is None:
            assert (await handler.health()).failures == {"side_effects.audit": 1}
        else:
            handler._audit_log.flush()
            rows = pq.read_table(next((tmp_path / "audits").glob("audits-*.parquet")))
            assert set(rows["request_id"].to_pylist()) == {feed["request_id"]}
            assert set(rows["bundle"].to_pylist()) == {feed["model"]["version"]}
            assert {post["post_id"] for post in feed["posts"]} <= set(rows["post_id"].to_pylist())

    log = EventLog(tmp_path / "audits", "test", name="audits", max_age_s=60)
    run(test, feed=feed, audit_log=log)
    run(test, feed=feed)


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

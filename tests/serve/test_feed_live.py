"""What viewers do changes their next page, through the whole handler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.schema import ACTION_NAMES, DELETIONS, POSTS
from serve.live.messages import Happened
from serve.served_feed import ServedFeed
from serve.stores.viewers import SqliteViewers
from serve.stores.viewers.store import ViewerStoreError
from tests.conftest import UNKNOWN_USER
from tests.serve.feed_server import FEED, pass_time, shown
from tests.serve.viewers.contract import engaged, table

WITHOUT_STORE = ["query_hydrators.recent_actions", "query_hydrators.served"]


class Down:
    """A store of viewers that is down while `down`, otherwise one in memory."""

    def __init__(self):
        self.down, self._store = True, SqliteViewers()

    def __getattr__(self, name):
        async def call(*args):
            if self.down and name != "close":
                raise ViewerStoreError("viewers: gone")
            return await getattr(self._store, name)(*args)

        return call


def a_minute_later(handler):
    """Let the handler's clock say so, and return the instant half a minute before."""
    pass_time(handler, 60)
    return handler._now_serving().model.as_of_ms + 30_000


@pytest.mark.parametrize("user_id", [1, UNKNOWN_USER])
def test_what_a_viewer_does_is_what_the_ranker_reads_next(run, models, bundle, user_id):
    """The newest entry of the history is what was just done: actions, author, surface and time.

    So it is for a viewer whom the bundle has never heard of, for whom it ends the cold start.
    """
    store, asked = SqliteViewers(), []

    async def rank(ranking):
        asked.append(ranking.history)
        return await models.rank(ranking)

    async def test(client, handler):
        page = (await client.post("/v1/feed", json={"user_id": user_id, "limit": 5})).json()
        post = page["posts"][2]
        before = asked.pop().post_id if asked else np.empty(0, np.int64)
        at_ms = a_minute_later(handler)
        mine = {"user_id": user_id, "post_id": post["post_id"]}
        others = {**mine, "user_id": 77, "post_id": page["posts"][0]["post_id"]}
        rows = [
            engaged("a", at_ms, **mine, surface=3),
            engaged("b", at_ms + 1, **mine, action="reply", surface=4),
            engaged("c", at_ms + 2, **mine, action="dwell_time", dwell_s=2.5),
            engaged("d", at_ms, **others),
            engaged("old", at_ms - 30_001, **mine, action="repost"),  # the bundle's to tell
            engaged("ahead", at_ms + 31_000, **mine, action="repost"),
        ]
        await store.add_engagements(table(rows))
        page = (await client.post("/v1/feed", json={"user_id": user_id, "limit": 5})).json()
        assert (page["cold_start"], page["degraded"]) == (False, [])
        assert post["post_id"] not in {other["post_id"] for other in page["posts"]}
        history = asked[-1]
        assert history.post_id.tolist() == [*before, post["post_id"]]
        assert history.author_id[-1] == post["author_id"] > 0
        assert history.did[-1] == sum(1 << ACTION_NAMES.index(n) for n in ("favorite", "reply"))
        assert (history.surface[-1], history.dwell_s[-1], history.at_ms[-1]) == (3, 2.5, at_ms)

    run(test, models=replace(models, rank=rank), viewers=store)


def _engagements(*rows):
    return Happened(POSTS.arrow.empty_table(), DELETIONS.arrow.empty_table(), table(rows))


@pytest.mark.parametrize("action", ["block_author", "mute_author"])
def test_a_block_holds_whatever_is_down(run, action):
    """Right after it no post of that author comes, with the store of viewers and without it.

    And the page that showed the post is still explained as it was.
    """
    store = Down()

    async def test(client, handler):
        store.down = False
        page = (await client.post("/v1/feed", json={"user_id": 2, "limit": 5})).json()
        await shown(handler)
        post = page["posts"][0]
        act = {"user_id": 2, "post_id": post["post_id"], "action": action}
        handler._live.apply(_engagements(engaged("a", a_minute_later(handler), **act)))
        for store.down in (False, True):
            query = {"user_id": 2, "limit": 100}
            later = (await client.post("/v1/feed", json=query)).json()
            assert later["degraded"] == (WITHOUT_STORE if store.down else [])
            assert len(later["posts"]) > 20
            assert post["author_id"] not in {one["author_id"] for one in later["posts"]}
            await shown(handler)
        store.down = False
        query = {"user_id": 2, "post_id": post["post_id"], "limit": 5}
        told = (await client.get("/v1/explain", params=query)).json()["explanation"]
        assert (told["outcome"], told["place"]) == ("served", 1)

    run(test, viewers=store)


def test_who_blocks_a_viewer_is_not_shown_to_them(run, bundle):
    """An account that blocks the viewer, as an author, is on no page of theirs from then on."""

    async def test(client, handler):
        mine = bundle.posts.to_pylist()[0]
        viewer_id, query = mine["author_id"], {"user_id": mine["author_id"], "limit": 100}
        page = (await client.post("/v1/feed", json={**query, "limit": 5})).json()
        await shown(handler)
        blocker_id = next(p["author_id"] for p in page["posts"] if p["author_id"] != viewer_id)
        act = {"user_id": blocker_id, "post_id": mine["post_id"], "action": "block_author"}
        at_ms = a_minute_later(handler)
        before = (await client.post("/v1/feed", json=query)).json()
        assert blocker_id in {one["author_id"] for one in before["posts"]}
        handler._live.apply(_engagements(engaged("a", at_ms, **act)))
        later = (await client.post("/v1/feed", json=query)).json()
        assert len(later["posts"]) > 20
        assert blocker_id not in {one["author_id"] for one in later["posts"]}
        services = ServedFeed(**handler._parts(handler._now_serving()))
        assert blocker_id not in (await services._graph(viewer_id, at_ms)).blocked_by

    filters = {name: how for name, how in FEED.filters.items() if name != "blocked_by"}
    run(test, feed=FEED.model_copy(update={"filters": filters}))


def test_a_follow_counts_at_once(run, bundle):
    """A stranger who follows an author gets posts of that author from the network."""

    async def test(client, handler):
        query = {"user_id": UNKNOWN_USER, "limit": 20, "in_network_only": True}
        assert (await client.post("/v1/feed", json=query)).json()["posts"] == []
        newest = bundle.posts.sort_by([("created_at_ms", "descending")]).slice(0, 1).to_pylist()[0]
        act = {"user_id": UNKNOWN_USER, "post_id": newest["post_id"], "action": "follow_author"}
        handler._live.apply(_engagements(engaged("a", a_minute_later(handler), **act)))
        posts = (await client.post("/v1/feed", json=query)).json()["posts"]
        assert {post["author_id"] for post in posts} == {newest["author_id"]}

    run(test)


def test_pages_go_on_without_the_store_of_viewers(run, tmp_path):
    """Exactly what asked it is named; impressions are logged all the same; then all is well."""
    store = Down()

    async def test(client, handler):
        for number in range(1, 4):
            page = (await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json()
            assert page["degraded"] == WITHOUT_STORE
            assert len(page["posts"]) == 5
            assert not page["cold_start"]
            await shown(handler)
            assert handler._feeds["timeline"].failures == dict.fromkeys(
                [*WITHOUT_STORE, "side_effects.served_history"], number
            )
        query = {"user_id": 1, "post_id": page["posts"][0]["post_id"], "limit": 5}
        told = (await client.get("/v1/explain", params=query)).json()
        assert told["degraded"] == WITHOUT_STORE
        assert told["explanation"]["outcome"] == "served"
        store.down = False
        pages = []
        for _ in range(2):
            page = (await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json()
            assert page["degraded"] == []
            pages.append({post["post_id"] for post in page["posts"]})
            await shown(handler)
        assert not pages[0] & pages[1]

    run(test, viewers=store)
    assert pq.read_table(next(tmp_path.glob("*.parquet"))).num_rows == 25


def test_a_log_that_refuses_costs_no_served_history(run, monkeypatch):
    """The next page shows something else although no impression could be logged."""

    async def test(client, handler):
        def refuse(_):
            raise OSError("no space")

        monkeypatch.setattr(handler._event_log, "append", refuse)
        pages = []
        for _ in range(2):
            page = (await client.post("/v1/feed", json={"user_id": 1, "limit": 5})).json()
            pages.append({post["post_id"] for post in page["posts"]})
            await shown(handler)
        assert not pages[0] & pages[1]
        assert handler._feeds["timeline"].failures == {"side_effects.impressions": 2}

    run(test)

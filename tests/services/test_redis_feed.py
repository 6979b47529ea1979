"""The feed goes on while the Redis that it shares with other replicas is killed or frozen."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from configs import check
from pipelines.feed.discover import FeedConfig
from serve.deployments import local_models
from serve.live.messages import Happened
from serve.live.viewers import ViewerActions
from serve.stores.viewers import RedisSettings, RedisViewers
from tests.serve.feed_server import FEED, serving, shown
from tests.serve.test_feed_live import WITHOUT_STORE, a_minute_later
from tests.serve.viewers.contract import engaged, table
from tests.services.redis_server import redis_server

pytestmark = pytest.mark.services

NUM = 6  # requests at once
CALLS = 3  # of the store, for one page: two reads, one write
# A busy machine is no failure: no component gives up before the store does.
PATIENT = {"timeout_ms": 60_000}
PATIENT_FEED = check(
    FEED.model_dump()
    | {
        "query_hydrators": {"recent_actions": PATIENT, "served": PATIENT},
        "side_effects": {"served_history": PATIENT},
    },
    FeedConfig,
    "test",
)


class Traffic:
    """Rounds of requests of different viewers at once."""

    def __init__(self, client, handler):
        self._client, self._handler = client, handler

    async def round(self) -> list[dict]:
        """One page for each viewer; returns when its side effects have ended, too."""
        asks = [{"user_id": user_id, "limit": 5} for user_id in range(1, NUM + 1)]
        replies = await asyncio.gather(*(self._client.post("/v1/feed", json=a) for a in asks))
        await shown(self._handler)
        assert {reply.status_code for reply in replies} == {200}
        pages = [reply.json() for reply in replies]
        assert all(len(page["posts"]) == 5 for page in pages)
        return pages


def posts_of(pages: list[dict]) -> dict[int, set[int]]:
    """What each viewer got."""
    return {page["user_id"]: {post["post_id"] for post in page["posts"]} for page in pages}


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_redis_goes_and_comes_back_mid_traffic(bundle, tmp_path, fault):
    """Every page is full all the time, and only without Redis it is degraded.

    Then exactly what asked Redis is named, and it is not asked for each of the pages. With it
    again, what viewers saw before it went is not shown.
    """
    now = 0.0

    async def test(server):
        nonlocal now
        settings = RedisSettings(kind="redis", address=server.address, timeout_ms=2_000)
        store = RedisViewers(settings, clock=lambda: now)
        app = serving(bundle, local_models(bundle), tmp_path / "log", PATIENT_FEED, viewers=store)
        async with app as (client, handler):
            traffic, breaker = Traffic(client, handler), store.breaker
            first = await traffic.round()
            assert all(page["degraded"] == [] for page in first)
            assert (breaker.num_tried, breaker.num_refused) == (CALLS * NUM, 0)

            server.kill() if fault == "killed" else server.freeze()
            for number in range(1, 4):
                pages = await traffic.round()
                assert all(page["degraded"] == WITHOUT_STORE for page in pages)
                assert not any(page["cold_start"] for page in pages)
                # Only what was asked before the first failure was tried at all.
                assert breaker.num_tried <= 2 * CALLS * NUM
                assert breaker.num_tried + breaker.num_refused == (1 + number) * CALLS * NUM
            tried = breaker.num_tried
            now += 1.5  # a pause ends: one call finds out for all
            pages = await traffic.round()
            assert all(page["degraded"] == WITHOUT_STORE for page in pages)
            assert breaker.num_tried == tried + 1

            server.start() if fault == "killed" else server.thaw()
            now += 1.5
            await traffic.round()
            pages = await traffic.round()
            assert all(page["degraded"] == [] for page in pages)
            before, after = posts_of(first), posts_of(pages)
            assert not any(before[viewer] & after[viewer] for viewer in before)
            missing = Counter(handler._feeds["timeline"].failures)
            assert set(missing) == {*WITHOUT_STORE, "side_effects.served_history"}

    with redis_server(tmp_path) as server:
        asyncio.run(test(server))


def test_replicas_share_what_viewers_saw_and_did(bundle, tmp_path):
    """What one replica showed or took note of, the other's next page knows."""
    asked = []
    models = local_models(bundle)

    async def search(one):
        asked.append(one.history.post_id.tolist())
        return await models.search(one)

    async def test(address):
        settings = RedisSettings(kind="redis", address=address, timeout_ms=60_000)
        stores = [RedisViewers(settings), RedisViewers(settings)]
        seen = type(models)(search, models.rank, models.value)
        async with (
            serving(bundle, seen, tmp_path / "a", PATIENT_FEED, viewers=stores[0]) as (one, a),
            serving(bundle, seen, tmp_path / "b", PATIENT_FEED, viewers=stores[1]) as (other, b),
        ):
            ask = {"user_id": 3, "limit": 5}
            page = (await one.post("/v1/feed", json=ask)).json()
            await shown(a)
            at_ms, post_id = a_minute_later(b), page["posts"][0]["post_id"]
            row = engaged("a", at_ms, user_id=3, post_id=post_id)
            empty = table([])
            view = ViewerActions(stores[0], asyncio.get_running_loop())
            await asyncio.to_thread(view.apply, Happened(empty, empty, table([row])))
            later = (await other.post("/v1/feed", json=ask)).json()
            assert not posts_of([page])[3] & posts_of([later])[3]
            assert asked[-1] == [*asked[0], post_id]

    with redis_server(tmp_path) as server:
        asyncio.run(test(server.address))

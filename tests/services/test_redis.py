"""The store of viewers in a real Redis: its promises, and what the feed does without it."""

from __future__ import annotations

import itertools
import sys

import pytest

from configs import ConfigError
from serve.stores.viewers import RedisSettings, RedisViewers, make_viewer_store
from serve.stores.viewers.store import ViewerStoreError, posts_of
from tests.serve.viewers.contract import AT_MS, engaged, every_promise, in_store, page, table
from tests.services.redis_server import redis_server

pytestmark = pytest.mark.services

WITHOUT_STORE = ["query_hydrators.recent_actions", "query_hydrators.served"]
PATIENT_MS = 20_000  # where nothing is meant to time out, a busy machine is no failure


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Redis for the tests that leave it alone."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def open_store(server):
    """Opens a new and empty store: keys that no other has."""
    number = itertools.count()

    def open_store(**settings):
        settings = {"timeout_ms": PATIENT_MS, "prefix": f"test{next(number)}"} | settings
        return make_viewer_store(RedisSettings(kind="redis", address=server.address, **settings))

    return open_store


@every_promise
def test_redis_keeps_the_promises(promise, open_store):
    """Every promise of a store of viewers holds."""
    promise(open_store)


def test_viewers_expire(open_store):
    """Everything kept of a viewer ends with the retention, which each write begins anew."""

    async def test(store):
        await store.add_page(1, page("r", [1]))
        await store.add_engagements(table([engaged("a")]))
        keys = [key async for key in store._client.scan_iter("expiring/*")]
        assert len(keys) == 4
        for key in keys:
            assert 3500 < await store._client.ttl(key) <= 3600
            await store._client.expire(key, 10)
        await store.add_page(1, page("s", [2]))
        await store.add_engagements(table([engaged("b")]))
        assert all([await store._client.ttl(key) > 3500 for key in keys])

    in_store(open_store, test, retention_s=3600, prefix="expiring")


def test_a_call_is_one_round_trip(open_store):
    """A read is one script, and a batch of writes one for each of its viewers."""

    async def test(store):
        async def commands() -> dict[str, int]:
            stats = await store._client.info("commandstats")
            return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in wanted}

        wanted = ("eval", "evalsha", "script")
        before = await commands()
        rows = [engaged(f"e{at}", user_id=1 + at % 2) for at in range(10)]
        await store.add_engagements(table(rows))
        await store.engagements(1)
        await store.pages(1)
        after = await commands()
        assert [after[name] - before[name] for name in wanted] == [4, 0, 0]

    in_store(open_store, test)


def test_replicas_share_what_is_written(open_store):
    """What one client wrote the other reads."""

    async def test(one):
        other = open_store(prefix="shared")
        await one.add_page(1, page("r", [5]))
        assert posts_of(await other.pages(1)).tolist() == [5]
        await other.close()

    in_store(open_store, test, prefix="shared")


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_a_lost_redis_is_asked_once_a_pause(tmp_path, fault):
    """After a failure calls fail at once; after each pause one is tried; back, all is as before."""
    now = 0.0
    with redis_server(tmp_path) as server:
        settings = RedisSettings(kind="redis", address=server.address, timeout_ms=300, pause_s=1)

        async def test(store):
            nonlocal now
            await _until_written(store, page("r", [1]))
            tried = store.breaker.num_tried
            server.kill() if fault == "killed" else server.freeze()
            for at in range(50):
                now = at / 10  # 4.9 s: five pauses begin
                with pytest.raises(ViewerStoreError, match=f"127.0.0.1:{server.port}: "):
                    await store.pages(1)
            assert store.breaker.num_tried - tried == 5
            server.start() if fault == "killed" else server.thaw()
            with pytest.raises(ViewerStoreError, match="not asked again yet after"):
                await store.pages(1)
            now = 100.0
            await _until_written(store, page("s", [2], AT_MS + 1))
            assert posts_of(await store.pages(1)).tolist() == [1, 2]

        async def _until_written(store, one):
            nonlocal now
            for _attempt in range(100):  # the time-out is short, the machine may be slow
                try:
                    await store.add_page(1, one)
                except ViewerStoreError:
                    now += 2
                else:
                    return
            raise AssertionError("never written")

        in_store(lambda: RedisViewers(settings, clock=lambda: now), test)


def test_secrets_come_from_the_environment_alone(tmp_path):
    """The password is read from the environment, a wrong one is told without it being named."""
    with redis_server(tmp_path, "requirepass sesame") as server:
        settings = RedisSettings(kind="redis", timeout_ms=PATIENT_MS)
        environ = {"RAYFEED_REDIS_URL": server.address, "RAYFEED_REDIS_PASSWORD": "sesame"}

        async def test(store):
            await store.add_page(1, page("r", [1]))

        in_store(lambda: RedisViewers(settings, environ), test)

        async def refused(store):
            with pytest.raises(ViewerStoreError, match="Auth") as told:
                await store.pages(1)
            assert "open" not in str(told.value)

        wrong = environ | {"RAYFEED_REDIS_PASSWORD": "open"}
        in_store(lambda: RedisViewers(settings, wrong), refused)


def test_settings_that_cannot_work_are_refused(monkeypatch):
    """No address, a secret among the settings, another scheme and no package: each is told."""
    for address, said in (
        (None, "viewers.address: give one, as redis://host:6379/0, or set RAYFEED_REDIS_URL"),
        ("redis://:sesame@host", "viewers.address: holds a password, .* RAYFEED_REDIS_PASSWORD"),
        ("http://host", "viewers.address: "),
    ):
        with pytest.raises(ConfigError, match=said) as told:
            RedisViewers(RedisSettings(kind="redis", address=address), {})
        assert "sesame" not in str(told.value)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match="`services`"):
        RedisViewers(RedisSettings(kind="redis", address="redis://host"), {})

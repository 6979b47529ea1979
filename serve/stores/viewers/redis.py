"""The store in Redis, which replicas on any number of machines share.

Of each viewer there are four keys, all in one hash slot: engagements and pages by name, and beside
each the names by time. A read is one script, a write one script a viewer, all in one round trip.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from pydantic import PositiveFloat, PositiveInt

from configs import ConfigError
from pipelines.schema import ENGAGEMENTS
from serve.stores.viewers.breaker import Breaker, OpenError
from serve.stores.viewers.store import Bounds, Page, ViewerStoreError, table_of

T = TypeVar("T")
URL, USERNAME, PASSWORD = (f"RAYFEED_REDIS_{name}" for name in ("URL", "USERNAME", "PASSWORD"))
_AT_MS, _EVENT_ID = map(ENGAGEMENTS.arrow.get_field_index, ("at_ms", "event_id"))
_BATCH = 200  # engagements written at once, so that many take no longer than one may
_NOT_INSTALLED = (
    "viewers.kind: redis needs the package redis, which is not installed; it is in the extra "
    "`services` of pyproject.toml"
)
# All things of a key in one string: a client reads that five times as fast as one by one.
_READ = "return '[' .. table.concat(redis.call('HVALS', KEYS[1]), ',') .. ']'"
# KEYS: things by name, names by time. ARGV: how many to keep, seconds to live, then name, time,
# thing of each. What has a name that is there already is not added.
_ADD = """
for at = 3, #ARGV, 3 do
  if redis.call('HSETNX', KEYS[1], ARGV[at], ARGV[at + 2]) == 1 then
    redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at])
  end
end
"""
_TRIM_BY_NUMBER = """
local names = redis.call('ZRANGE', KEYS[2], 0, -1 - ARGV[1])
"""
# A page begins with its number of posts. The newest ones stay as long as all have room.
_TRIM_BY_POSTS = """
local names, num = {}, 0
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, -1)) do
  num = num + tonumber(string.match(redis.call('HGET', KEYS[1], name), '^%[(%d+)'))
  if num > tonumber(ARGV[1]) then names[#names + 1] = name end
end
"""
_END = """
for _, name in ipairs(names) do
  redis.call('HDEL', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
"""
_ADD_ENGAGEMENTS = _ADD + _TRIM_BY_NUMBER + _END
_ADD_PAGE = _ADD + _TRIM_BY_POSTS + _END


class RedisSettings(Bounds):
    """The shared store; user name and password come from RAYFEED_REDIS_USERNAME and _PASSWORD."""

    kind: Literal["redis"]
    # redis://host:port/database, or rediss:// for TLS; None = what RAYFEED_REDIS_URL says.
    address: str | None = None
    prefix: str = "rayfeed"  # what keys begin with, to tell feeds that share a Redis apart
    # How long a call may take, connecting included; shorter than the time-outs of the components
    # that ask, or they give up before the breaker knows.
    timeout_ms: PositiveInt = 100
    pause_s: PositiveFloat = 1.0  # after a failure: calls fail at once, then one is tried
    max_connections: PositiveInt = 64  # of one replica


class RedisViewers:
    """`ViewerStore` in Redis; while Redis is down, calls fail at once but for one a pause.

    Viewers are not counted: one about whom nothing was written for `retention_s` expires, and
    give Redis a `maxmemory` with a policy of `volatile-lru` as well.

    Attributes:
        breaker: tells how often Redis was asked, and how often it was not.
    """

    shared = True

    def __init__(
        self,
        settings: RedisSettings,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect with the first call, not now.

        Raises:
            ConfigError: no address, one that holds a secret, or no package `redis`.
        """
        self._settings = settings
        self._address, self._client = _client(settings, environ)
        self.breaker = Breaker(settings.pause_s, clock)

    async def add_engagements(self, engagements: pa.Table) -> None:
        """As `ViewerStore`, viewer by viewer and not in one transaction; 200 in a round trip."""
        for start in range(0, len(engagements), _BATCH):
            await self._add_batch(engagements.slice(start, _BATCH))

    async def engagements(self, user_id: int) -> pa.Table:
        """As `ViewerStore`."""
        rows = await self._read("engagements", user_id)
        rows.sort(key=lambda row: (row[_AT_MS], row[_EVENT_ID]))
        return table_of(rows)

    async def add_page(self, user_id: int, page: Page) -> None:
        """As `ViewerStore`."""
        posts = page.post_id.tolist()
        thing = json.dumps([len(posts), page.request_id, page.surface, page.at_ms, posts])
        things = {user_id: [page.request_id, page.at_ms, thing]}
        await self._add(_ADD_PAGE, "pages", things, self._settings.num_posts)

    async def pages(self, user_id: int) -> list[Page]:
        """As `ViewerStore`."""
        pages = [
            Page(request_id, surface, at_ms, np.array(posts, np.int64))
            for _, request_id, surface, at_ms, posts in await self._read("pages", user_id)
        ]
        return sorted(pages, key=lambda page: (page.at_ms, page.request_id))

    async def close(self) -> None:
        """As `ViewerStore`; what Redis holds stays."""
        await self._client.aclose()

    async def _add_batch(self, engagements: pa.Table) -> None:
        things: dict[int, list[Any]] = {}
        columns = (engagements[name].to_pylist() for name in ENGAGEMENTS.arrow.names)
        for event_id, user_id, post_id, at_ms, *rest in zip(*columns, strict=True):
            thing = json.dumps([event_id, user_id, post_id, at_ms, *rest])
            things.setdefault(user_id, []).extend((event_id, at_ms, thing))
        await self._add(_ADD_ENGAGEMENTS, "engagements", things, self._settings.num_engagements)

    async def _add(self, script: str, kind: str, things: Mapping[int, list], num: int) -> None:
        async def work() -> None:
            pipeline = self._client.pipeline(transaction=False)
            for user_id, named in things.items():
                key = self._key(kind, user_id)
                bounds = (num, self._settings.retention_s)
                pipeline.eval(script, 2, key, f"{key}/by_time", *bounds, *named)
            await pipeline.execute()

        await self._call(work)

    async def _read(self, kind: str, user_id: int) -> list[Any]:
        async def work() -> str:
            return await self._client.eval(_READ, 1, self._key(kind, user_id))

        return json.loads(await self._call(work))

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        async def in_time() -> T:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                return await work()

        try:
            return await self.breaker.call(in_time)
        except OpenError as error:
            raise ViewerStoreError(f"{self._address}: {error}") from None
        except Exception as error:
            told = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise ViewerStoreError(f"{self._address}: {told}") from error

    def _key(self, kind: str, user_id: int) -> str:
        return f"{self._settings.prefix}/{{{user_id}}}/{kind}"


def _client(settings: RedisSettings, environ: Mapping[str, str]) -> tuple[str, Any]:
    """Where Redis is, fit to be told, and a client that is not connected yet."""
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as Lost
    except ImportError:
        raise ConfigError(_NOT_INSTALLED) from None
    address = settings.address or environ.get(URL)
    if not address:
        raise ConfigError(f"viewers.address: give one, as redis://host:6379/0, or set {URL}")
    parts = urlsplit(address)
    if settings.address and parts.password:
        raise ConfigError(f"viewers.address: holds a password, which belongs into {PASSWORD}")
    secrets = {"username": environ.get(USERNAME), "password": environ.get(PASSWORD)}
    try:
        pool = BlockingConnectionPool.from_url(
            address,
            decode_responses=True,
            max_connections=settings.max_connections,
            timeout=settings.timeout_ms / 1000,
            socket_timeout=settings.timeout_ms / 1000,
            socket_connect_timeout=settings.timeout_ms / 1000,
            # An idle connection that was closed from afar is no failure: once more, on a new one.
            retry=Retry(NoBackoff(), 1, supported_errors=(Lost,)),
            **{name: value for name, value in secrets.items() if value},
        )
    except ValueError as error:
        raise ConfigError(f"viewers.address: {error}") from None
    told = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"
    return told, Redis.from_pool(pool)

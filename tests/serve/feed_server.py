"""The HTTP surface over a bundle in one process without Ray, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from configs import load
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve.feed_handler import FeedHandler
from serve.models import Models
from serve.routes import create_app
from serve.stores.event_log import EventLog
from serve.stores.watched import Watched
from train.bundle import Bundle

Test = Callable[[httpx.AsyncClient, FeedHandler], Awaitable[None]]
FEED = load(Path(__file__).parents[2] / "configs" / "feed.yaml", FeedConfig)


@asynccontextmanager
async def serving(
    bundle: Bundle,
    models: Models,
    folder: Path,
    feed: FeedConfig | Watched[Pipeline] = FEED,
    **settings: Any,
) -> AsyncIterator[tuple[httpx.AsyncClient, FeedHandler]]:
    """A client of a handler that serves `bundle`, closed as the app's shutdown would."""
    log = EventLog(folder, "test", max_age_s=60)
    served = Pipeline.build(feed) if isinstance(feed, FeedConfig) else feed
    handler = FeedHandler(served, log, clock="log", **settings)
    handler.use(bundle, models)
    transport = httpx.ASGITransport(create_app(handler))
    async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
        try:
            yield client, handler
        finally:
            await handler.close()


async def shown(handler: FeedHandler) -> None:
    """Wait until what happens after replies has happened."""
    for feed in handler._feeds.values():
        await feed.drain()


def pass_time(handler: FeedHandler, seconds: float) -> None:
    """Let the handler's clock, which is that of the log, go on by so much."""
    handler._clock._zero_ms += int(1000 * seconds)

"""A handler over the small bundle for each test of the HTTP surface, and shards to ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from serve.deployments import local_models
from serve.models import Models
from serve.stores.vectors.sharded import Answer, Question, Shards
from tests.serve.feed_server import Test, serving
from train.bundle import Bundle


@pytest.fixture(scope="module")
def models(bundle: Bundle) -> Models:
    """The bundle's models in this process; a test that batches makes its own."""
    return local_models(bundle)


@pytest.fixture
def run(bundle, models, tmp_path) -> Callable[..., None]:
    """Run an async test against a fresh handler."""

    def run(test: Test, models: Models = models, folder: Path = tmp_path, **settings: Any) -> None:
        async def body() -> None:
            async with serving(bundle, models, folder, **settings) as (client, handler):
                await test(client, handler)

        asyncio.run(body())

    return run


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A running loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def over(loop) -> Callable[..., Shards]:
    """Shards that answer as functions do."""

    def over(
        answers: Mapping[str, Callable[[Question], Answer]],
        timeout_s: float = 60.0,
        retry_after_s: float = 1e-9,
    ) -> Shards:
        def asking(answer: Callable[[Question], Answer]):
            async def ask(question: Question) -> Answer:
                return await asyncio.to_thread(answer, question)

            return ask

        asks = {name: asking(answer) for name, answer in answers.items()}
        return Shards(asks, loop, timeout_s, retry_after_s)

    return over

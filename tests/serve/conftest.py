"""A handler over the small bundle for each test of the HTTP surface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.deployments import local_models
from serve.models import Models
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

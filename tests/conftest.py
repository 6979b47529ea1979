"""One small made-up world and its prepared data, for all tests of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.data.synthetic import SyntheticConfig, World
from tests.train.prepared import prepare


@pytest.fixture(scope="session")
def world() -> World:
    """150 viewers, thirty authors, 800 posts."""
    return World.make(
        SyntheticConfig(num_users=150, num_authors=30, num_posts=800, num_events=8_000)
    )


@pytest.fixture(scope="session")
def prepared(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's log as the data job writes it."""
    return prepare(world, tmp_path_factory.mktemp("prepared"))

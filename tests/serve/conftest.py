"""One tiny bundle for all tests of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serve.tiny import write_bundle
from train.bundle import Bundle, load


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle of untrained models."""
    return write_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    """The same, loaded."""
    return load(bundle_path)

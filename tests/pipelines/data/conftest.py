"""The bundled log, prepared once for all who look at what the job made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs import load
from pipelines.data.job import DataConfig, prepare


@pytest.fixture(scope="session")
def kuairand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled log as the job writes it, here in this process; nobody writes to it."""
    out = tmp_path_factory.mktemp("kuairand") / "out"
    overrides = [f"out={out}", "examples.history_len=20"]
    prepare(load("configs/data/kuairand.yaml", DataConfig, overrides))
    return out

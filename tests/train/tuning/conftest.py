"""Searches of the small world's blend."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs import check
from train.tuning.settings import BlendSearch

SPACE = {
    "weights.favorite": {"low": 0.0, "high": 4.0},
    "scorers.author_diversity.decay": {"low": 0.1, "high": 1.0},
    "interference.alpha": {"low": 0.0, "high": 2.0},
}


@pytest.fixture
def search_of(prepared: Path, bundle_path: Path, tmp_path: Path):
    """Makes the settings of a search over the small world, six visits to tune on."""
    (tmp_path / "feed.yaml").write_text("filters: {age: {max_age_hours: 10000}}\n")

    def make(**settings: object) -> BlendSearch:
        values = {
            "kind": "blend",
            "name": "blend",
            "out": str(tmp_path / "tune"),
            "bundle": str(bundle_path),
            "data": str(prepared),
            "feed": str(tmp_path / "feed.yaml"),
            "write": str(tmp_path / "tuned"),
            "space": SPACE,
            "relevant": "favorite",
            "num_requests": 6,
            "num_test_requests": 4,
            "num_candidates": 2000,
            "num_trials": 3,
            "num_chunks": 3,
        }
        return check(values | settings, BlendSearch, place="test")

    return make

"""The bench of tuning on a small case: it runs and says what it measured."""

from __future__ import annotations

import json

from tests.bench import bench_tune
from train.report import markdown


def test_record_of_the_bench(tmp_path, monkeypatch):
    """Every space has its row, of as many requests and candidates as there are."""
    small = {"num_users": 80, "num_authors": 20, "num_posts": 400, "num_events": 3_000}
    monkeypatch.setattr(bench_tune, "WORLD", bench_tune.SyntheticConfig(**small))
    monkeypatch.setattr(bench_tune, "R", 4)
    monkeypatch.setattr(bench_tune, "C", 30)
    page = bench_tune.report(2, workers=1, out=tmp_path)

    record = json.loads((tmp_path / "tune_bench.json").read_text())
    assert page.read_text() == markdown(record)
    assert (record["requests"], record["candidates"]) == (4, 30)
    assert list(record["trials"]) == list(bench_tune.SPACES)
    assert all(row["trials_per_cpu_hour"] > 0 for row in record["trials"].values())

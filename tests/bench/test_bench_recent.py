"""The bench of recent posts on a small world: it runs and says what it measured."""

from __future__ import annotations

import json

from tests.bench import bench_recent
from train.report import markdown


def test_record_of_the_bench(tmp_path, monkeypatch):
    """Columns and deques find the same, and the page is that of the record."""
    monkeypatch.setattr(bench_recent, "WARM_UP", 2)
    page = bench_recent.report(2_000, num_reads=8, num_plain=6, folder=tmp_path)
    record = json.loads((tmp_path / "recent_bench.json").read_text())
    assert page.read_text() == markdown(record)
    assert record["reads"]["read"]["number"] == 8
    assert record["reads"]["read of deques"]["number"] == 6
    assert record["posts_found_per_read"] > 100
    for row in record["reads"].values():
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert 0 < row["p50_cpu_ms"] <= row["p99_cpu_ms"]

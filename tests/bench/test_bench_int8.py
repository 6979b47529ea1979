"""The bench of the int8 ranker on a small bundle: it says what it measured."""

from __future__ import annotations

import json

import pytest

from tests.bench import bench_int8
from train.models.quantised import num_weight_bytes
from train.report import markdown


def test_record_of_the_bench(bundle, prepared, tmp_path, monkeypatch):
    """Every shape, way and number of candidates is there; float32 orders as itself."""
    for name, value in (("WARM_UP", 1), ("CANDIDATES", (2, 3)), ("LEAST_SHOWN", 4)):
        monkeypatch.setattr(bench_int8, name, value)
    page = bench_int8.report(bundle, prepared, "click", 2, folder=tmp_path)

    record = json.loads((tmp_path / "int8_bench.json").read_text())
    assert page.read_text() == markdown(record)
    assert list(record["shapes"]) == ["bundle's", "4 layers of 128", "4 layers of 512"]
    served = record["shapes"]["bundle's"]
    assert list(served["times"])[:3] == [
        f"2 candidates, {way}" for way in ("float32", "int8", "int8 tables")
    ]
    row = served["times"]["3 candidates, int8"]
    exact = served["times"]["3 candidates, float32"]
    assert row["speed"] == pytest.approx(exact["p50_cpu_ms"] / row["p50_cpu_ms"])
    assert served["weights"]["float32"]["bytes"] == num_weight_bytes(bundle.load_ranker())
    assert record["orders"]["float32"]["top_3_overlap"] == 1
    assert 0 < record["orders"]["int8"]["top_3_overlap"] <= 1

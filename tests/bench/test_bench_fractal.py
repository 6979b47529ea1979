"""The bench of the interference field on a small case: it runs and says what it measured."""

from __future__ import annotations

import json

from tests.bench import bench_fractal
from train.report import markdown


def test_record_of_the_bench(tmp_path, monkeypatch):
    """All ways find the same field, and the page is that of the record."""
    for name, value in (("C", 20), ("N", 10), ("D", 8), ("DRAWS", 16), ("WARM_UP", 1)):
        monkeypatch.setattr(bench_fractal, name, value)
    monkeypatch.setattr(bench_fractal, "memory", dict)
    monkeypatch.setattr(bench_fractal, "LENGTHS", (10,))
    page = bench_fractal.report(2, folder=tmp_path)

    record = json.loads((tmp_path / "fractal_bench.json").read_text())
    assert page.read_text() == markdown(record)
    errors = record["largest_difference_from_plain_sum"]
    assert errors["factorised float64"] < 1e-12
    assert errors["factorised float32"] < 1e-5
    assert record["times"]["factorised float32"]["number"] == 2

"""The bench of the ranker on a small case, without compilation: it says what it measured."""

from __future__ import annotations

import json

from tests.bench import bench_ranker
from train.models import compiled
from train.report import markdown


def test_record_of_the_bench(tmp_path, monkeypatch):
    """Without a compiler all is eager, which the record says; hits score as full passes do."""
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    for name, value in (("WARM_UP", 1), ("EVERY", 2), ("LARGE", bench_ranker.DEMO)):
        monkeypatch.setattr(bench_ranker, name, value)
    page = bench_ranker.report(4, folder=tmp_path)

    record = json.loads((tmp_path / "ranker_bench.json").read_text())
    assert page.read_text() == markdown(record)
    large = record["large"]
    assert list(large["times"]) == ["eager full", "eager miss", "eager hit"]
    assert "no C++ compiler: g++" in large["compiled"]
    assert large["largest_difference_of_logits_hit_to_full"]["eager"] < 1e-4
    assert large["standard_deviation_of_logits"] > 0.1
    assert large["times"]["eager hit"]["gflop"] < large["times"]["eager full"]["gflop"] / 3
    assert list(record["demo, 1 viewer"]["times"]) == ["eager"]
    assert record["checks"][0]["check"] == "eager miss over hit"

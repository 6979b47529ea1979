"""The bench of the int8 ranker on a small bundle: it says what it measured."""

from __future__ import annotations

import json

import pytest

from tests.bench import bench_int8, bench_ranker, int8_passes
from tests.train.models.ranker_worlds import ranker
from train.models.quantised import num_weight_bytes
from train.models.ranker import RankerConfig
from train.report import markdown


def test_record_of_the_bench(bundle_path, bundle, prepared, tmp_path, monkeypatch):
    """Every shape, way and number of candidates is there; float32 orders as itself."""
    for name, value in (("CANDIDATES", (2, 3)), ("LEAST_SHOWN", 4)):
        monkeypatch.setattr(bench_int8, name, value)
    for module in (int8_passes, bench_ranker):
        monkeypatch.setattr(module, "WARM_UP", 1)
    monkeypatch.setattr(int8_passes, "compiler_problem", lambda: "takes a minute")
    page = bench_int8.report([(bundle_path, prepared)], "click", 2, folder=tmp_path)

    record = json.loads((tmp_path / "int8_bench.json").read_text())
    assert page.read_text() == markdown(record)
    assert list(record["shapes"]) == ["bundle's", "4 layers of 128", "4 layers of 512"]
    served = record["shapes"]["bundle's"]
    assert list(served["passes"]) == ["2 candidates", "3 candidates"]
    times = served["passes"]["3 candidates"]["times"]
    ways = {f"eager {what} {how}" for what in ("miss", "hit") for how in int8_passes.KINDS}
    assert set(times) == ways
    for what in ("miss", "hit"):
        row, exact = times[f"eager {what} int8"], times[f"eager {what} float32"]
        assert row["number"] == 2
        assert row["speed"] == pytest.approx(exact["p50_cpu_ms"] / row["p50_cpu_ms"])
    logits = served["passes"]["3 candidates"]["logits"]
    assert logits["float32"]["largest_to_float32"] == 0 < logits["int8"]["largest_to_float32"]
    assert logits["float32"]["eager_hit_to_full"] < 1e-4
    assert served["weights"]["float32"]["bytes"] == num_weight_bytes(bundle.load_ranker())
    orders = record["orders"][bundle_path.name]
    assert orders["float32"]["top_3_overlap"] == 1
    assert 0 < orders["int8"]["top_3_overlap"] <= 1


def test_a_viewer_of_several_rounds_is_computed_once():
    """Of every second round's viewer the context is kept for the next round's candidates."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (int8_passes, bench_ranker):
            patch.setattr(module, "WARM_UP", 0)
        patch.setattr(int8_passes, "compiler_problem", lambda: "takes a minute")
        ways = int8_passes.ways_of(ranker(RankerConfig(features={"history_len": 4}), 0))
        times = int8_passes.measured(ways, 3, rounds=5, every=2)["times"]
    assert times["eager hit int8"]["number"] == 5
    assert times["eager miss int8"]["number"] == 2  # of three, the first is a warm-up


def test_the_fastest_way_is_that_of_the_least_time():
    """By the median of this thread's time."""
    times = {"a": {"p50_cpu_ms": 2.0}, "b": {"p50_cpu_ms": 1.0}, "c": {"p50_cpu_ms": 3.0}}
    assert int8_passes.fastest(times) == "b"

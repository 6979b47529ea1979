"""The bench of compiled passes on a small case, without compilation: it says what it measured."""

from __future__ import annotations

import json

from tests.bench import bench_compiled
from train.models import compiled
from train.report import markdown


def test_record_of_the_bench(tmp_path, monkeypatch):
    """Without a compiler all is eager, which the record says; a hit computes less than a miss."""
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    for name, value in (("WARM_UP", 1), ("C", 9), ("VIEWERS", (2,))):
        monkeypatch.setattr(bench_compiled, name, value)
    page = bench_compiled.report(3, folder=tmp_path)

    record = json.loads((tmp_path / "ranker_compiled.json").read_text())
    assert page.read_text() == markdown(record)
    assert "no C++ compiler: g++" in record["compiled"]
    assert record["starts"] == []
    times = record["viewers: 2"]["times"]
    assert list(times) == ["eager miss", "eager hit"]
    assert times["eager hit"]["gflop"] < times["eager miss"]["gflop"]

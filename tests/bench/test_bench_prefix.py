"""The bench of prefixes on few vectors: it runs, and what must be exact is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.bench import bench_prefix, bench_rescan
from tests.bench.prefix_texts import Texts
from train.report import markdown


def test_record_of_the_bench(tmp_path, monkeypatch):
    """Whole vectors compared one by one are exact; rescanning nearly all is almost so."""
    monkeypatch.setattr(bench_prefix, "RESCANNED", (100, 550))
    monkeypatch.setattr(bench_prefix, "FUNNELS", ((550, 100), (590, 580)))
    monkeypatch.setattr(bench_prefix, "_FITTED", 600)
    texts = Texts.made_up(np.random.default_rng(0))
    page = bench_prefix.report(texts, [600], 5, kinds=("flat",), folder=tmp_path)
    record = json.loads((tmp_path / "prefix_bench.json").read_text())
    assert page.read_text() == markdown(record)
    for name in ("own", "pca"):
        found = record["600 posts"][name]["searches"]
        assert found["flat 256"]["recall@10"] == found["flat 64"]["recall@10_own"] == 1
        assert found["flat 64 -> 550 x 256"]["recall@10"] >= 0.9
        recall = {way: of["recall@10"] for way, of in found.items()}
        assert recall["flat 64 -> 550 x 256"] >= recall["flat 64 -> 100 x 256"]
        assert recall["flat 64 -> 590 x 128 -> 580 x 256"] >= 0.95


def test_more_texts_are_mixtures_of_one_topic():
    """As many as asked for, of length 1, the real ones among them and the rest near theirs."""
    rng = np.random.default_rng(0)
    texts = Texts.made_up(rng)
    content = texts.grown(len(texts.content) + 500, rng)
    assert len(content) == len(texts.content) + 500
    assert np.linalg.norm(content, axis=1) == pytest.approx(1, abs=1e-5)
    own = content[: len(texts.content)]
    assert {row.tobytes() for row in own} == {row.tobytes() for row in texts.content}


def test_more_candidates_find_more(monkeypatch):
    """Whole vectors compared are exact by any zoom, and recall grows with what is rescanned."""
    monkeypatch.setattr(bench_rescan, "RESCANNED", (10, 600))
    monkeypatch.setattr(bench_rescan, "_FITTED", 400)
    texts = Texts.made_up(np.random.default_rng(0))
    few = Texts(texts.content[::8], texts.label[::8], texts.origin)
    found = bench_rescan.measure(bench_rescan.fitted(few), few.content, 5)
    assert set(found) == {f"zoom {zoom}" for zoom in bench_rescan.ZOOMS}
    for ways in found.values():
        recall = {way: of["recall@10"] for way, of in ways.items()}
        assert recall["whole vectors"] >= 0.98
        assert recall["10 rescanned"] <= recall["600 rescanned"] + 1e-9

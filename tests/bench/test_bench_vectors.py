"""The bench of vectors on few posts: it runs and says what it measured."""

from __future__ import annotations

import json

from tests.bench import bench_vectors
from train.report import markdown


def test_record_of_the_bench(tmp_path):
    """The page is that of the record, and who asks again at once is a hit."""
    page = bench_vectors.report(2_000, rounds=2, num_viewers=3, folder=tmp_path)
    record = json.loads((tmp_path / "vectors_bench.json").read_text())
    assert page.read_text() == markdown(record)
    assert record["viewers"]["computed"]["hit_rate"] == 0
    assert record["viewers"]["asked again after 0 s"]["hit_rate"] == 1
    assert all(ms >= 0 for ms in record["search_ms"].values())
    assert record["search_over_shards"].keys() > {"one index", "8 shards"}

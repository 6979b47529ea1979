"""The bench of memory on few posts: its bundle holds them, and the plan is of what it measured."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench import bench_memory
from tests.bench.grown import TEXT_WIDTH, WIDTH, grown
from train.bundle import load


@pytest.fixture(scope="module")
def many(bundle_path, tmp_path_factory):
    """A bundle of more posts than it was made with."""
    return grown(bundle_path, 1_500, tmp_path_factory.mktemp("grown") / "bundle")


def test_a_grown_bundle_is_one(many):
    """Tables, index, counts and vectors of text are of the same posts."""
    bundle = load(many)
    ids = np.arange(1, 1_501)
    np.testing.assert_array_equal(bundle.facts.post_id, ids)
    np.testing.assert_array_equal(bundle.load_index().post_id, ids)
    np.testing.assert_array_equal(np.unique(bundle.facts.rates["post"].id), ids)
    assert bundle.load_index().vectors.d == WIDTH
    assert bundle.facts.content.shape == (1_501, TEXT_WIDTH)
    assert bundle.facts.content[:-1].any(axis=1).all()
    assert bundle.posts["text"].null_count == 0


@pytest.mark.parametrize("what", bench_memory.PROCESSES)
def test_every_process_is_measured(many, what):
    """Each is made from the bundle, and is there when its memory is read."""
    found = bench_memory.measure_here(what, many)
    assert 0 < found["code"] <= found["peak"]
    assert found["whole"] <= found["peak"]


def test_every_structure_is_measured(many):
    """Each has its bytes; the vectors of text, which are part of the facts, are counted apart."""
    found = bench_memory.measure_here("structures", many)
    assert len(found) == 9
    assert found["vectors of text alone"] == 4 * TEXT_WIDTH * 1_501


def test_the_plan_shares_posts_among_shards():
    """A shard has its share of the posts, and large indexes have their graph."""
    per_post = {"bytes_per_post": 100.0, "without_posts_MiB": 0.0}
    found = {"processes": dict.fromkeys(bench_memory.PROCESSES, per_post)}
    rows = bench_memory.plan(found, graph_bytes=50.0)
    shard = rows[bench_memory.SHARD]
    assert shard["posts"] == bench_memory.PLANNED // bench_memory.PLANNED_SHARDS
    assert shard["GiB"] == pytest.approx(shard["posts"] * 150 / 2**30)
    assert rows["Ranker"]["GiB"] == pytest.approx(bench_memory.PLANNED * 100 / 2**30)

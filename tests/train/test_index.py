"""The index finds what comparing with every post finds."""

from __future__ import annotations

import numpy as np
import pytest

from train import index as module
from train.index import PostIndex


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, unit vectors of 2,000 posts, and 20 queries."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2020, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return rng.permutation(2000) + 10_000, vectors[:2000], vectors[2000:]


def brute_force(world, k: int) -> np.ndarray:
    """Ids of the k largest inner products of each query."""
    post_id, vectors, queries = world
    return post_id[np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]]


def test_small_corpus_is_searched_exactly(world):
    """Under the limit, ids and similarities are those of brute force, best first."""
    post_id, vectors, queries = world
    found, similarity = PostIndex.build(post_id, vectors).search(queries, 50)

    np.testing.assert_array_equal(found, brute_force(world, 50))
    assert (np.diff(similarity, axis=1) <= 0).all()


def test_large_corpus_is_nearly_exact(world, monkeypatch):
    """From the limit on, HNSW finds at least 95 of 100 true neighbours."""
    monkeypatch.setattr(module, "EXACT_BELOW", 1000)
    post_id, vectors, queries = world
    found, _ = PostIndex.build(post_id, vectors).search(queries, 50)
    common = [len(set(a) & set(b)) for a, b in zip(found, brute_force(world, 50), strict=True)]

    assert np.mean(common) / 50 >= 0.95


def test_asking_for_more_than_there_is(world):
    """A corpus smaller than the wish gives all of it."""
    post_id, vectors, queries = world

    assert PostIndex.build(post_id[:7], vectors[:7]).search(queries, 50)[0].shape == (20, 7)


def test_round_trip(world, tmp_path):
    """A saved and loaded index answers the same."""
    post_id, vectors, queries = world
    index = PostIndex.build(post_id, vectors)
    index.save(tmp_path)

    for before, after in zip(
        index.search(queries, 9), PostIndex.load(tmp_path).search(queries, 9), strict=True
    ):
        np.testing.assert_array_equal(before, after)

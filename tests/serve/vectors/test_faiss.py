"""Posts that come and go while an index is searched are found, or not, as comparing shows."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.stores.vectors.faiss import FaissVectors
from tests.serve.vectors.contract import (
    FIRST,
    IDS,
    STEPS,
    WIDTH,
    check_search,
    check_steps,
    drawn,
    first_posts,
    put,
    topics_for,
)
from train import index as post_index
from train.index import PostIndex


@settings(max_examples=40)
@given(STEPS, st.sampled_from([3, 8, 1000]))
def test_any_order_of_changes_and_searches(steps, merge_after):
    """Whatever was added, removed and merged, and when, searches find what is there."""
    index, topics, model = first_posts()
    vectors = FaissVectors(index, topics, merge_after)
    check_steps(vectors, model, steps)
    vectors.close()
    check_search(vectors, model, 99)


@settings(max_examples=30)
@given(IDS, IDS, IDS, IDS)
def test_what_changes_during_a_merge_is_kept(added, removed, added_late, removed_late):
    """A merge is of the posts as they were; what came and went meanwhile stands all the same."""
    index, topics, model = first_posts()
    vectors = FaissVectors(index, topics, merge_after=10**6)

    def change(new: list[int], gone: list[int], seed: int) -> None:
        check_steps(vectors, model, [("remove", gone)])
        ids = np.array(new)
        placed, about = drawn(seed, len(ids)), topics_for(ids, seed)
        vectors.add(ids, placed, about)
        put(model, ids, placed, about)

    change(added, removed, 7)
    before = vectors._state
    merged = vectors._merged(before)
    assert not len(merged.delta.post_id)
    vectors._merging = threading.current_thread()  # as if that had taken until now
    vectors._changed = []
    change(added_late, removed_late, 8)
    vectors._merging, vectors._state = None, vectors._caught_up(merged)
    check_search(vectors, model, 1)
    change(added, removed_late, 9)
    check_search(vectors, model, 2)


def test_all_posts_may_go(tmp_path):
    """An index whose posts were all removed finds nothing, and takes new ones."""
    index, topics, _ = first_posts()
    vectors = FaissVectors(index, topics, merge_after=1)
    vectors.remove(FIRST)
    vectors.close()
    assert vectors.search(drawn(1, 2), 5)[0].max(initial=0) == 0
    vectors.add(np.array([7]), drawn(2, 1), np.array([[3]]))
    vectors.close()
    assert vectors.search(drawn(1, 1), 5, [(3,)])[0].tolist() == [[7]]


def test_a_merge_that_fails_loses_nothing(monkeypatch, caplog):
    """Posts stay beside the main index, and the next change tries again."""
    index, topics, model = first_posts()
    vectors = FaissVectors(index, topics, merge_after=2)

    def full(*_):
        raise MemoryError("full")

    with monkeypatch.context() as patched:
        patched.setattr(PostIndex, "extended", full)
        check_steps(vectors, model, [("add", [35, 36, 37]), ("merge", [1])])
    assert "unmerged" in caplog.text
    check_steps(vectors, model, [("add", [38]), ("merge", [1])])
    assert not len(vectors._state.delta.post_id)


@pytest.mark.parametrize("removed", [0, 150, 600])
def test_a_large_index_keeps_finding(monkeypatch, removed):
    """With HNSW too, new posts are found, removed ones are not, and few others are missed."""
    monkeypatch.setattr(post_index, "EXACT_BELOW", 1000)
    rng = np.random.default_rng(0)
    placed = rng.normal(size=(2000, WIDTH)).astype(np.float32)
    post_id, none = np.arange(1, 2001), np.zeros((2000, 1), np.int64)
    vectors = FaissVectors(PostIndex.build(post_id[:1500], placed[:1500]), none[:1500], 400)
    vectors.add(post_id[1500:], placed[1500:], none[1500:])
    gone = rng.permutation(post_id)[:removed]
    vectors.remove(gone)
    vectors.close()
    assert len(vectors._state.main.index.post_id) >= 1400
    query = rng.normal(size=(10, WIDTH)).astype(np.float32)
    near = query @ placed.T
    near[:, gone - 1] = -np.inf
    expected = post_id[np.argsort(-near, axis=1)[:, :50]]
    found = vectors.search(query, 50)[0]

    assert not np.isin(found, gone).any()
    common = [len(set(a) & set(b)) for a, b in zip(found, expected, strict=True)]
    assert np.mean(common) / 50 >= 0.95


def test_an_index_left_alone_answers_as_before():
    """With nothing added or removed, results are those of the bundle's index."""
    index, topics, _ = first_posts()
    query = drawn(3, 5)
    for ours, theirs in zip(
        FaissVectors(index, topics).search(query, 9), index.search(query, 9), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)

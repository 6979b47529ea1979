"""What every index of vectors promises, as checks that tests of each kind run."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from serve.stores.vectors import VectorIndex
from train.index import PostIndex

WIDTH = 6
TOPICS = 4  # 1 to 4
FIRST = np.arange(1, 31)  # posts of the bundle; others up to 40 come later
Model = dict[int, tuple[np.ndarray, set[int]]]

IDS = st.lists(st.integers(1, 40), min_size=1, max_size=6)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "search", "search", "merge"]), IDS), max_size=12
)


def drawn(seed: int, num: int) -> np.ndarray:
    """Vectors whose inner products are all different. [num, WIDTH]."""
    return np.random.default_rng(seed).normal(size=(num, WIDTH)).astype(np.float32)


def topics_for(ids: np.ndarray, turn: int = 0) -> np.ndarray:
    """Two topics of each post, or one, or none. [n, 2]."""
    return np.stack([(ids + turn) % (TOPICS + 1), np.where(ids % 3, 0, 1 + ids % TOPICS)], axis=1)


def first_posts() -> tuple[PostIndex, np.ndarray, Model]:
    """Index and topics of the posts of a bundle, and the same as a dict."""
    vectors, topics = drawn(0, len(FIRST)), topics_for(FIRST)
    model: Model = {}
    put(model, FIRST, vectors, topics)
    return PostIndex.build(FIRST, vectors), topics, model


def put(model: Model, ids: np.ndarray, vectors: np.ndarray, topics: np.ndarray) -> None:
    """What `add` promises."""
    for row, post_id in enumerate(ids.tolist()):
        model[post_id] = vectors[row], set(topics[row].tolist()) - {0}


def check_steps(index: VectorIndex, model: Model, steps: list[tuple[str, list[int]]]) -> None:
    """Do all of `steps` to both, one after the other.

    "merge" ends a merge where the index has any (`index.close` waits for it).
    """
    for turn, (what, ids) in enumerate(steps):
        post_id = np.array(ids, np.int64)
        if what == "add":
            vectors = drawn(1000 + turn + 100 * sum(ids), len(ids))
            topics = topics_for(post_id, turn)
            index.add(post_id, vectors, topics)
            put(model, post_id, vectors, topics)
        elif what == "remove":
            index.remove(post_id)
            for one in ids:
                model.pop(one, None)
        elif what == "merge" and hasattr(index, "_merging"):
            index.close()
        elif what == "search":
            check_search(index, model, turn)


def check_search(index: VectorIndex, model: Model, seed: int) -> None:
    """Posts found, and similarities, are those of comparing with every post."""
    query = drawn(5000 + seed, 4)
    topics = [(), (2,), (1, 3), (99,)]
    for num_posts in (3, 100):
        for asked in (None, topics):
            post_id, similarity = index.search(query, num_posts, asked)
            assert post_id.shape == similarity.shape
            for row in range(len(query)):
                wanted = set(asked[row]) if asked else set()
                expected = brute_force(model, query[row], wanted)[:num_posts]
                found = post_id[row] > 0
                assert post_id[row][found].tolist() == [one for one, _ in expected]
                assert (similarity[row][~found] == -np.inf).all()
                np.testing.assert_allclose(
                    similarity[row][found], [value for _, value in expected], atol=1e-5
                )
    ids = np.array([1, 30, 35, 77])
    expected = [model[i][0] @ q if i in model else np.nan for i, q in zip(ids, query, strict=True)]
    np.testing.assert_allclose(index.similarity(query, ids), expected, atol=1e-5)


def brute_force(model: Model, query: np.ndarray, topics: set[int]) -> list[tuple[int, float]]:
    """All posts on `topics`, or all, with their similarities, best first."""
    near = [
        (post_id, float(vector @ query))
        for post_id, (vector, mine) in model.items()
        if not topics or mine & topics
    ]
    return sorted(near, key=lambda pair: -pair[1])

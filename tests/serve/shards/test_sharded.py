"""An index in shards answers as one index does, and says so where a shard does not answer."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.stores.vectors import VectorsError
from serve.stores.vectors.faiss import FaissVectors
from serve.stores.vectors.sharded import (
    Answer,
    Nearest,
    Question,
    ShardedVectors,
    Shards,
    noting_missing,
)
from tests.serve.vectors.contract import (
    FIRST,
    STEPS,
    Model,
    brute_force,
    check_search,
    check_steps,
    drawn,
    first_posts,
)
from train.bundle.part import Part
from train.index import PostIndex


def answering(index: FaissVectors, question: Question) -> Answer:
    """As `IndexShard.answer`."""
    if isinstance(question, Nearest):
        found = index.search(question.query, question.num_posts, question.topics)
        return Answer(*found, len(index))
    return Answer(question.post_id, index.stored(question.post_id), len(index))


class Together:
    """A `VectorIndex` that hands what is added to the shard whose part it is."""

    def __init__(self, over, num: int, merge_after: int = 10**6, **times: float) -> None:
        index, topics, self.model = first_posts()
        self.parts = [Part(number, num) for number in range(num)]
        self.held = []
        for part in self.parts:
            mine = part.has(FIRST)
            vectors = index.stored()[mine]
            one = PostIndex.build(FIRST[mine], vectors)
            self.held.append(FaissVectors(one, topics[mine], merge_after))
        self.answers = {
            f"shard {n}": lambda question, one=one: answering(one, question)
            for n, one in enumerate(self.held)
        }
        self.shards: Shards = over(self.answers, **times)
        self.all = ShardedVectors(self.shards, "v", "posts")
        self.search, self.similarity = self.all.search, self.all.similarity

    def add(self, post_id, vectors, topics) -> None:
        for part, one in zip(self.parts, self.held, strict=True):
            mine = part.has(post_id)
            if mine.any():
                one.add(post_id[mine], vectors[mine], topics[mine])

    def remove(self, post_id) -> None:
        for one in self.held:
            one.remove(post_id)

    def without(self, number: int) -> Model:
        """What the other shards hold."""
        mine = {i for i in self.model if self.parts[number].has(np.array([i]))[0]}
        return {post_id: held for post_id, held in self.model.items() if post_id not in mine}


@settings(max_examples=30)
@given(STEPS, st.integers(1, 4), st.sampled_from([3, 1000]))
def test_found_as_by_one_index(over, steps, num, merge_after):
    """Whatever comes and goes, with and without topics, all of it is found as by comparing."""
    together = Together(over, num, merge_after)
    check_steps(together, together.model, steps)
    check_search(together, together.model, 99)
    assert len(together.all) == len(together.model)


@settings(max_examples=25)
@given(st.integers(2, 4), st.integers(0, 3), st.integers(1, 40), st.integers(0, 1000))
def test_a_dead_shards_posts_are_missing_and_no_others(over, num, dead, num_posts, seed):
    """The answer is that of the other shards, names the dead one, and is whole when it is back."""
    together, dead = Together(over, num), dead % num
    name, query = f"shard {dead}", drawn(seed, 1)
    working = together.answers[name]

    def broken(_: Question) -> Answer:
        raise ConnectionError("dead")

    together.answers[name] = broken
    shards = over(together.answers)
    index = ShardedVectors(shards, "v", "posts")
    with noting_missing() as missing:
        post_id, _ = index.search(query, num_posts)
    expected = brute_force(together.without(dead), query[0], set())[:num_posts]
    assert post_id[0].tolist() == [one for one, _ in expected]
    assert missing == {name}
    assert shards.stats()["shards_failing"] == 1
    back = ShardedVectors(over(together.answers | {name: working}), "v", "posts")
    with noting_missing() as missing:
        post_id, _ = back.search(query, num_posts)
    expected = brute_force(together.model, query[0], set())[:num_posts]
    assert post_id[0].tolist() == [one for one, _ in expected]
    assert not missing


def test_a_late_shard_is_not_waited_for_twice(over):
    """What is late counts as missing; while it rests nobody waits for it, and then it is back."""
    together = Together(over, 2)
    late, asked = threading.Event(), []
    working = together.answers["shard 1"]

    def slow(question: Question) -> Answer:
        asked.append(question)
        late.wait(30)
        return working(question)

    shards = over(together.answers | {"shard 1": slow}, timeout_s=0.5, retry_after_s=3600)
    index = ShardedVectors(shards, "v", "posts")
    for _ in range(3):
        with noting_missing() as missing:
            index.search(drawn(1, 2), 5)
        assert missing == {"shard 1"}
    assert len(asked) == 1
    late.set()
    shards._breakers["shard 1"]._failed_at -= 3600
    with noting_missing() as missing:
        found = index.search(drawn(1, 2), 5)[0]
    assert not missing
    np.testing.assert_array_equal(found, together.search(drawn(1, 2), 5)[0])


def test_no_answer_is_an_error_and_no_empty_page(over):
    """Where all shards fail, or that of the very post asked about, there is no answer."""

    def broken(_: Question) -> Answer:
        raise ConnectionError("dead")

    together = Together(over, 2)
    with pytest.raises(VectorsError, match="dead"):
        ShardedVectors(over({"a": broken, "b": broken}), "v", "posts").search(drawn(0, 1), 3)
    index = ShardedVectors(over(together.answers | {"shard 1": broken}), "v", "posts")
    here = FIRST[Part(0, 2).has(FIRST)][:1]
    there = FIRST[Part(1, 2).has(FIRST)][:1]
    assert np.isfinite(index.similarity(drawn(0, 1), here)).all()
    with pytest.raises(VectorsError, match="shard 1"):
        index.similarity(drawn(0, 1), there)


@given(st.lists(st.integers(1, 2**62), min_size=1, max_size=200), st.integers(1, 8))
def test_every_post_has_one_part(ids, num):
    """A post falls to exactly one part."""
    has = [Part(number, num).has(np.array(ids)) for number in range(num)]
    assert (np.sum(has, axis=0) == 1).all()


def test_parts_are_about_as_large():
    """Of many posts no part has a tenth more than another."""
    sizes = [Part(number, 8).has(np.arange(1, 80_001)).sum() for number in range(8)]
    assert max(sizes) < 1.1 * min(sizes)

"""Variety by a determinantal point process, against determinants worked out one by one."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feed.pipeline import Pipeline
from pipelines.feed.scorers.dpp import Dpp
from pipelines.feed.selectors.top_k import TopK
from pipelines.feed.table import Candidates
from tests.pipelines.feed.compose import compose, serve
from tests.pipelines.feed.world import Disturbed, World

WORLD = World()


def vectors(num: int, seed: int, size: int = 5) -> np.ndarray:
    """Unit vectors, some of them alike. float64 [num, size]."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(num, size))[rng.integers(0, num, num)] + 0.1 * rng.normal(
        size=(num, size)
    )
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def placed(score, about, repost_of=None, **settings):
    """Places of posts 1 to C whose vectors are `about`; a zero row is no vector."""
    num = len(score)
    table = Candidates(
        {
            "post_id": np.arange(1, num + 1),
            "repost_of_post_id": np.zeros(num, np.int64) if repost_of is None else repost_of,
            "score": np.asarray(score, float),
        }
    )

    async def answer(post_id):
        return np.asarray(about, np.float32)[post_id - 1]

    services = Disturbed(WORLD, vectors=answer)
    columns = asyncio.run(Dpp(**settings).score(WORLD.query(), table, services))
    order = TopK().select(WORLD.query(), table.with_columns(columns))
    np.testing.assert_array_equal(columns["dpp_place"][order], np.arange(num))
    by_score = np.argsort(-table["score"], kind="stable")
    assert (columns["dpp_moved"][by_score] == columns["dpp_place"][by_score] - np.arange(num)).all()
    return order.tolist()


@given(st.integers(1, 7), st.integers(0, 10**6), st.floats(0, 0.95))
def test_greedy_choice_maximises_the_determinant(num, seed, theta):
    """Each pick gives the largest determinant that any next pick could give."""
    about = vectors(num, seed)
    score = np.sort(np.random.default_rng(seed).random(num))[::-1]
    alpha = theta / (2 * (1 - theta))
    quality = np.exp(alpha * score / score.max())
    kernel = quality[:, None] * quality * (about @ about.T)
    picked = Dpp(theta=theta).pick(score, about).tolist()
    assert len(set(picked)) == len(picked)
    for number in range(1, len(picked) + 1):
        determinants = {
            row: np.linalg.det(kernel[np.ix_(chosen, chosen)])
            for row in range(num)
            if row not in picked[: number - 1]
            for chosen in [[*picked[: number - 1], row]]
        }
        best = max(determinants.values())
        assert abs(determinants[picked[number - 1]] - best) <= 1e-9 * max(best, 1)


def test_alike_posts_are_moved_apart():
    """Of two equal posts the second makes room for another topic, and comes right after."""
    about = np.eye(3)[[0, 0, 1]]
    assert placed([3, 2.9, 2.8], about) == [0, 2, 1]
    assert placed([3, 2.9, 2.8], about, order="picked") == [0, 2, 1]
    assert placed([3, 2.9, 2.8], np.eye(3)) == [0, 1, 2]


def test_theta_trades_worth_for_variety():
    """Near 1 the order is that of scores; at 0 only variety counts."""
    about = np.array([[1, 0], [0.9, np.sqrt(0.19)], [0, 1]])
    assert placed([1, 0.9, 0.1], about, theta=0.99) == [0, 1, 2]
    assert placed([1, 0.9, 0.1], about, theta=0) == [0, 2, 1]


def test_the_choice_is_shown_by_score_unless_told_otherwise():
    """Variety decides which posts come first; among those the better stands higher."""
    about = np.array([[1, 0, 0], [0.9, np.sqrt(0.19), 0], [0, 0, 1]])
    assert placed([3, 2.9, 2.8], about) == [0, 1, 2]
    assert placed([3, 2.9, 2.8], about, picks=2) == [0, 2, 1]
    assert placed([3, 2.9, 2.8], about, order="picked") == [0, 2, 1]


def test_posts_without_a_vector_stay_where_they_are():
    """They keep their place whatever moves around them; without any vector nothing moves."""
    about = np.eye(3)[[0, 1, 0, 1, 2]]
    about[1] = 0
    order = placed([5, 4.9, 4.8, 4.7, 4.6], about)
    assert order[1] == 1
    assert order == [0, 1, 3, 4, 2]
    assert placed([1, 3, 2], np.zeros((3, 4))) == [1, 2, 0]
    assert placed([1, 3, 2], np.zeros((3, 0))) == [1, 2, 0]


def test_a_repost_is_about_what_its_original_is_about():
    """A repost of what stands above it adds nothing, whatever its own vector says."""
    about = np.eye(3)
    assert placed([3, 2.9, 2.8], about, repost_of=np.array([0, 1, 0])) == [0, 2, 1]


def test_only_the_pool_moves_and_nan_stays_last():
    """Posts below the pool keep their order, and so do those without a number for a score."""
    about = np.eye(3)[[0, 0, 1, 0, 1]]
    assert placed([5, 4.9, 4.8, 4.7, 4.6], about, pool=3) == [0, 2, 1, 3, 4]
    assert placed([np.nan, 5, 4.9, np.nan, 4.8], about) == [1, 2, 4, 0, 3]


@given(st.integers(1, 12), st.integers(0, 10**6))
def test_the_order_does_not_depend_on_the_table(num, seed):
    """Where no two scores are equal, posts come in one order however the table was filled."""
    rng = np.random.default_rng(seed)
    score, about, mixed = rng.permutation(num) + 1.0, vectors(num, seed), rng.permutation(num)
    first = placed(score, about)
    table = Candidates(
        {
            "post_id": np.arange(1, num + 1)[mixed],
            "repost_of_post_id": np.zeros(num, np.int64),
            "score": score[mixed],
        }
    )

    async def answer(post_id):
        return about.astype(np.float32)[post_id - 1]

    columns = asyncio.run(Dpp().score(WORLD.query(), table, Disturbed(WORLD, vectors=answer)))
    order = np.argsort(columns["dpp_place"])
    assert (table.post_id[order] - 1).tolist() == first


def test_a_page_with_vectors_is_more_varied_and_says_why():
    """With content vectors pages repeat themselves less; without, they are those of scores."""
    world = World()
    plain = serve(Pipeline.build(), world.query(), world)
    off = serve(compose(scorers="dpp"), world.query(), world)
    assert plain.page.post_id.tolist() == off.page.post_id.tolist()
    world.about = world.space.astype(np.float32)
    varied = serve(Pipeline.build(), world.query(), world)

    def likeness(page):
        about = world.space[page.post_id - 1]
        return (about @ about.T).mean()

    assert likeness(varied.page) < likeness(plain.page)
    row = int(np.argmax(varied.page["dpp_moved"] < 0))
    assert "up for variety" in str(Dpp().describe(varied.page, row))

"""Scorers against their closed forms, to 1e-12."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.scorers.author_diversity import AuthorDiversity
from pipelines.feed.scorers.base_score import BaseScore
from pipelines.feed.scorers.final_score import FinalScore
from pipelines.feed.scorers.out_of_network import OutOfNetwork
from pipelines.feed.selectors.top_k import TopK
from pipelines.feed.table import Candidates
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import Disturbed, World

WORLD = World()
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def scored(scorer, **columns):
    """A scorer's columns for posts 1 to C."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    num_posts = len(next(iter(arrays.values())))
    posts = Candidates({"post_id": np.arange(1, num_posts + 1), **arrays})
    return asyncio.run(scorer.score(WORLD.query(), posts, WORLD))


def test_without_values_the_base_score_is_popularity():
    """Popularity is taken as it is."""
    assert scored(BaseScore(), popularity=[0.3, 0.1])["base_score"].tolist() == [0.3, 0.1]


def test_author_diversity_equals_its_closed_form():
    """The k-th post of an author counts 0.75 · 0.5^k + 0.25, whatever posts lie between."""
    base = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    columns = scored(AuthorDiversity(), author_id=[1, 2, 1, 1, 2, 1], base_score=base)
    expected = [1, 1, 0.625, 0.4375, 0.625, 0.34375]
    np.testing.assert_allclose(columns["author_diversity_multiplier"], expected, rtol=0, atol=1e-12)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 9)), max_size=25))
def test_author_diversity_counts_better_posts_of_the_author(rows):
    """The position counts the author's posts ranked above; ties go by place in the table."""
    author_id = np.array([author for author, _ in rows], np.int64)
    base = np.array([score for _, score in rows])
    if not rows:
        return
    position = scored(AuthorDiversity(), author_id=author_id, base_score=base)["author_position"]
    for row, (author, score) in enumerate(rows):
        above = sum(
            1
            for other, (a, s) in enumerate(rows)
            if a == author and (s > score or (s == score and other < row))
        )
        assert position[row] == (above if author else 0)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(0, 9), min_size=1, max_size=20, unique=True), st.data())
def test_author_diversity_depends_on_scores_not_on_places(base, data):
    """Where no two scores are equal, the order of the table changes nothing."""
    order = np.array(data.draw(st.permutations(range(len(base)))))
    author_id = np.arange(len(base)) % 3 + 1
    first = scored(AuthorDiversity(), author_id=author_id, base_score=np.array(base))
    moved = scored(AuthorDiversity(), author_id=author_id[order], base_score=np.array(base)[order])
    for name, values in first.items():
        assert moved[name].tolist() == values[order].tolist()


KINDS = {
    "in_network": [True, False, True, True, False],
    "reply_to_post_id": [0, 0, 7, 0, 7],
    "repost_of_post_id": [0, 0, 0, 7, 0],
}


def test_out_of_network_applies_to_strangers_and_to_what_is_no_original():
    """Followed authors' originals keep their score; all else counts 0.75, by topic 0.5."""
    name = "out_of_network_multiplier"
    assert scored(OutOfNetwork(), **KINDS)[name].tolist() == [1.0, 0.75, 0.75, 0.75, 0.75]
    only_strangers = scored(OutOfNetwork(replies_and_reposts=False), **KINDS)[name]
    assert only_strangers.tolist() == [1.0, 0.75, 1.0, 1.0, 0.75]
    posts = Candidates(
        {"post_id": np.arange(1, 6), **{n: np.array(values) for n, values in KINDS.items()}}
    )
    query = replace(WORLD.query(), topic_ids=(3,))
    by_topic = asyncio.run(OutOfNetwork().score(query, posts, WORLD))[name]
    assert by_topic.tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]
    said = [OutOfNetwork().describe(posts.with_columns({name: by_topic}), row) for row in range(5)]
    assert said == [None, "out of network ×0.50", "reply ×0.50", "repost ×0.50", said[1]]


@settings(deadline=None)  # a busy machine is no failure
@given(VALUES, st.floats(0, 1), st.floats(0, 1))
def test_final_score_is_the_product_of_its_parts(base, one, two):
    """Every column named *_multiplier counts, and no other."""
    full = np.ones(len(base))
    columns = {"one_multiplier": full * one, "two_multiplier": full * two, "three": full * 9}
    score = scored(FinalScore(), base_score=base, **columns)["score"]
    np.testing.assert_allclose(score, np.array(base) * one * two, rtol=1e-12)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(allow_nan=True), max_size=30))
def test_selection_is_stable_and_nan_comes_last(values):
    """Equal scores keep their order, and a NaN never outranks a number."""
    posts = Candidates({"post_id": np.arange(1, len(values) + 1), "score": np.array(values)})
    order = TopK().select(WORLD.query(), posts).tolist()
    numbers = [row for row, value in enumerate(values) if value == value]
    expected = sorted(numbers, key=lambda row: -values[row])
    assert order[: len(numbers)] == expected
    assert sorted(order) == list(range(len(values)))


def test_a_post_without_a_value_comes_last():
    """A NaN from the value model sinks its post to the end and disturbs no other."""

    async def value(p_action):
        worth = await WORLD.value(p_action)
        worth[::2] = np.nan
        return worth

    config = FeedConfig(scorers={"author_diversity": None}, post_filters={"author_cap": None})
    result = serve(Pipeline.build(config), WORLD.query(limit=1000), Disturbed(WORLD, value=value))
    score = result.page["score"]
    valued = np.isfinite(score)
    assert 0 < valued.sum() < len(score)
    assert valued[: valued.sum()].all()
    assert (np.diff(score[: valued.sum()]) <= 0).all()


@pytest.mark.parametrize("field", ["decay", "floor"])
def test_decay_and_floor_are_shares(field):
    """Settings outside [0, 1] would raise an author's later posts, and are refused."""
    with pytest.raises(ValueError, match=f"author_diversity.{field}: Input should be less than"):
        Pipeline.build(FeedConfig(scorers={"author_diversity": {field: 1.5}}))

"""Lifts and tiredness, against closed forms, to 1e-12."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feed.pipeline import Pipeline
from pipelines.feed.scorers.author_diversity import AuthorDiversity
from pipelines.feed.scorers.author_fatigue import AuthorFatigue
from pipelines.feed.scorers.cold_start import ColdStart
from pipelines.feed.scorers.topic_fatigue import TopicFatigue
from pipelines.feed.services import Served
from pipelines.feed.stages import with_context
from pipelines.feed.table import Candidates
from tests.pipelines.feed.compose import entry, serve
from tests.pipelines.feed.world import NOW_MS, World

WORLD = World()
HOUR_MS = 3_600_000


def lifted(score, followers=0, views=0, reply=0, repost=0, order=None, **settings):
    """Multipliers of posts 1 to C; single numbers are for all of them."""
    num = len(score)
    table = Candidates(
        {
            "post_id": np.arange(1, num + 1),
            "base_score": np.asarray(score, float),
            "num_followers": np.broadcast_to(followers, num),
            "num_views": np.broadcast_to(views, num),
            "reply_to_post_id": np.broadcast_to(reply, num),
            "repost_of_post_id": np.broadcast_to(repost, num),
        }
    )
    if order is not None:
        table = table.take(order)
    found = asyncio.run(ColdStart(**settings).score(WORLD.query(), table, WORLD))
    return found["cold_start_multiplier"]


SCORES = np.linspace(2, 1, 20)  # of twenty posts; the 16th scores SCORES[15]
FAMOUS = np.full(20, 10**9)


def one_new(row: int, followers: float = 0) -> np.ndarray:
    """Followers of twenty authors of whom one is new."""
    return np.where(np.arange(20) == row, followers, FAMOUS)


def test_one_post_by_a_new_author_is_lifted():
    """The best unknown one below the sixteenth place goes up to its score, no other moves."""
    share = 1 / (1 + (18 / 20 / 0.85) ** 8)
    expected = np.ones(20)
    expected[18] = 1 + share * (SCORES[15] - SCORES[18]) / SCORES[18]
    np.testing.assert_allclose(lifted(SCORES, one_new(18)), expected, rtol=0, atol=1e-12)
    two = np.where(np.arange(20) >= 16, 0, FAMOUS)
    assert np.flatnonzero(lifted(SCORES, two) > 1).tolist() == [16]


def test_who_needs_no_lift_gets_none():
    """Posts above the slot, replies, reposts, and posts of which too little is known stay."""
    assert (lifted(SCORES, one_new(3)) == 1).all()
    for reason in ({"reply": 7}, {"repost": 7}, {"views": -1}, {"views": 10**9}):
        assert lifted(SCORES, one_new(18), **reason).max() <= 1 + 1e-12
    assert (lifted(SCORES, -1) == 1).all()
    assert (lifted(SCORES[:15], 0) == 1).all()
    assert (
        lifted(np.r_[SCORES[:18], 0, np.nan], np.where(np.arange(20) > 17, 0, FAMOUS)) == 1
    ).all()


@given(st.floats(0, 5000), st.floats(0, 5000))
def test_the_lift_fades_with_followers(one, other):
    """More followers never mean a larger lift, and a few more change little."""
    few, many = sorted((one, other))
    lifts = [lifted(SCORES, one_new(18, followers)).max() for followers in (few, many, many + 1)]
    assert lifts[0] >= lifts[1] >= lifts[2]
    assert lifts[1] - lifts[2] < 1e-3
    assert lifted(SCORES, one_new(18, 1000)).max() > 1


@given(st.lists(st.floats(0.01, 9), min_size=16, max_size=30, unique=True), st.data())
def test_the_lift_does_not_depend_on_the_table(score, data):
    """Where no two scores are equal, the same post is lifted by as much in any order."""
    order = np.array(data.draw(st.permutations(range(len(score)))))
    np.testing.assert_allclose(
        lifted(score, 10, order=order), lifted(score, 10)[order], rtol=0, atol=1e-12
    )
    assert (lifted(score, 10) > 1).sum() <= 1
    assert (lifted(score, 10) >= 1).all()


def test_authors_posts_are_counted_after_the_lift():
    """A lifted post may pass another of its author, which then is the second."""
    table = {"author_id": np.array([5, 5]), "base_score": np.array([1.0, 0.9])}
    posts = Candidates({"post_id": np.array([1, 2]), **table})
    raised = posts.with_columns({"cold_start_multiplier": np.array([1.0, 2.0])})
    for given_posts, position in ((posts, [0, 1]), (raised, [1, 0])):
        found = asyncio.run(AuthorDiversity().score(WORLD.query(), given_posts, WORLD))
        assert found["author_position"].tolist() == position


def tired(component, ages_hours, **columns):
    """Multipliers after pages of author and topic 5 at these ages, and once author 6, topic 7."""
    ages = np.array([*ages_hours, 6.0])
    five = np.where(np.arange(len(ages)) < len(ages_hours), 5, 6)
    topics = np.stack([five, np.where(five == 6, 7, 0)], axis=1)
    at_ms = NOW_MS - (ages * HOUR_MS).astype(np.int64)
    served = Served(np.arange(1, len(ages) + 1), five, topics, at_ms)
    query = with_context(WORLD.query(), {"query.served": served})
    arrays = {name: np.array(values) for name, values in columns.items()}
    num = len(next(iter(arrays.values())))
    posts = Candidates({"post_id": np.arange(1, num + 1), **arrays})
    (values,) = asyncio.run(component.score(query, posts, WORLD)).values()
    return values


def test_authors_seen_lately_count_less():
    """0.5 · 0.9^n + 0.5, n the author's served posts, each half after 6 h; strangers keep 1."""
    got = tired(AuthorFatigue(), [0, 0, 6, 12], author_id=[5, 6, 7, 0])
    expected = [0.5 * 0.9**2.75 + 0.5, 0.5 * 0.9**0.5 + 0.5, 1.0, 1.0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_topics_seen_lately_count_less():
    """By the mean over a post's topics; a post on none keeps its score."""
    got = tired(TopicFatigue(), [0, 6], topic_ids=[[5, 0], [5, 7], [7, 9], [0, 0], [9, 0]])
    seen = np.array([1.5, (1.5 + 0.5) / 2, 0.25, 0, 0])
    np.testing.assert_allclose(got, 0.2 * 0.99**seen + 0.8, rtol=0, atol=1e-12)


@given(st.lists(st.floats(0, 1000), max_size=200), st.sampled_from([AuthorFatigue, TopicFatigue]))
def test_tiredness_is_bounded(ages, kind):
    """However much was served, the multiplier lies between the floor and 1."""
    columns = {"author_id": [5, 6]} if kind is AuthorFatigue else {"topic_ids": [[5, 0], [6, 7]]}
    got = tired(kind(), ages, **columns)
    assert (got >= kind().floor).all()
    assert (got <= 1).all()


def test_a_first_page_tires_nobody():
    """Until something was served both are left out; after a full page of an author they act."""
    world = World(num_authors=4)
    first = serve(Pipeline.build(), world.query(2), world)
    keys = ("scorers.author_fatigue", "scorers.topic_fatigue")
    assert {entry(first, key).outcome for key in keys} == {"skipped"}
    post_id, author_id = first.page.post_id, first.page["author_id"]
    at_ms = np.full(len(post_id), NOW_MS - 1000)
    world.pages = Served(post_id, author_id, np.zeros((len(post_id), 2), np.int64), at_ms)
    second = serve(Pipeline.build(), world.query(2), world)
    often = np.bincount(author_id).argmax()
    multiplier = second.scored["author_fatigue_multiplier"]
    assert multiplier[second.scored["author_id"] == often].max() == pytest.approx(
        0.5 * 0.9 ** (author_id == often).sum() + 0.5, abs=1e-4
    )

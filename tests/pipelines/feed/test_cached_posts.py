"""A page made from posts that were scored before is the page that would have been made anew."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from pipelines.features import History
from pipelines.feed.discover import FeedConfig
from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.pool import pool_key
from pipelines.feed.result import FeedResult
from pipelines.feed.services import Scored, Served
from pipelines.feed.stages import FeedQuery, with_context
from pipelines.schema import ACTION_NAMES
from tests.pipelines.feed.compose import entry
from tests.pipelines.feed.world import NOW_MS, STRANGER, Disturbed, World, broken

CACHED, TWO_TOWER = "sources.cached_posts", "sources.two_tower"


def page(
    world: World, query: FeedQuery, services: Any = None, pipeline: Pipeline | None = None
) -> FeedResult:
    """Make a page, wait for its side effects, and let the world know that it was served."""
    pipeline, services = pipeline or Pipeline.build(), services or world

    async def body() -> FeedResult:
        result = await pipeline.run(query, services)
        pipeline.start_side_effects(result, services)
        await pipeline.drain()
        return result

    result = asyncio.run(body())
    ids = np.concatenate([world.pages.post_id, result.page.post_id])
    rows = ids - 1
    topics = world.facts["topic_ids"][rows]
    at_ms = np.full(len(ids), NOW_MS)
    world.pages = Served(ids, world.author_id[rows], topics, at_ms)
    return result


def a_world() -> World:
    """One with a cache."""
    world = World()
    world.scored = {}
    return world


def next_query(world: World, user_id: int = 1, **changes: Any) -> FeedQuery:
    """A request a minute later."""
    return replace(world.query(user_id), now_ms=NOW_MS + 60_000, **changes)


@pytest.mark.parametrize("user_id", [1, 2, 5])
def test_the_next_page_is_as_if_made_anew(user_id):
    """Same posts, order and scores, without a search or a ranking; nothing is shown twice."""
    with_cache, without = a_world(), World()
    firsts = [page(world, world.query(user_id)) for world in (with_cache, without)]
    assert firsts[0].page.post_id.tolist() == firsts[1].page.post_id.tolist()
    ranked = list(with_cache.num_ranked)
    for _ in range(2):
        cached, anew = (page(w, next_query(w, user_id)) for w in (with_cache, without))
        assert cached.page.post_id.tolist() == anew.page.post_id.tolist()
        assert cached.page["score"].tolist() == anew.page["score"].tolist()
        outcomes = [entry(cached, key).outcome for key in (CACHED, TWO_TOWER, "sources.popular")]
        assert outcomes == ["ok", "skipped", "skipped"]
        assert entry(cached, "sources.in_network").outcome == "ok"
        assert cached.degraded == ()
    assert with_cache.num_ranked == ranked
    assert len(np.unique(with_cache.pages.post_id)) == len(with_cache.pages.post_id) == 30


def test_only_new_posts_are_ranked():
    """A post of a followed author that came since is ranked, the others keep what they had."""
    world = a_world()
    first = page(world, world.query())
    ((key, scored),) = world.scored.items()
    new = np.setdiff1d(scored.post_id, first.page.post_id)
    followed = asyncio.run(world.graph(1)).followed
    new = new[np.isin(world.author_id[new - 1], followed)][:2]
    keep = ~np.isin(scored.post_id, new)
    before = np.random.default_rng(0).random(scored.p_action[keep].shape, np.float32)
    world.scored[key] = replace(scored, post_id=scored.post_id[keep], p_action=before)
    world.num_ranked.clear()
    result = page(world, next_query(world))
    assert np.isin(new, result.scored.post_id).all()
    assert world.num_ranked == [len(new)]
    at = {int(one): row for row, one in enumerate(world.scored[key].post_id)}
    for row, one in enumerate(result.scored.post_id.tolist()):
        if one in at:
            np.testing.assert_array_equal(result.scored["p_action"][row], before[at[one]])


def test_posts_that_scored_low_stay_out():
    """What did not get among the kept posts is not ranked again by way of a followed author."""
    world = a_world()
    config = FeedConfig(side_effects={"candidate_cache": {"num_posts": 40}})
    pipeline = Pipeline.build(config)
    first = page(world, world.query(), pipeline=pipeline)
    (scored,) = world.scored.values()
    assert scored.post_id.tolist() == first.pool.post_id[:40].tolist()
    assert len(scored.left_out) == len(first.scored) - 40
    world.num_ranked.clear()
    second = page(world, next_query(world), pipeline=pipeline)
    assert not np.isin(second.retrieved.post_id, scored.left_out).any()
    assert world.num_ranked == []


def test_a_kept_pool_gets_no_younger():
    """Pages made from the cache leave it as it was."""
    world = a_world()
    page(world, world.query())
    before = dict(world.scored)
    page(world, next_query(world))
    assert world.scored == before


def test_the_pool_is_best_first():
    """What the selector chose in its order, then the others by score; each post once."""
    config = FeedConfig(selectors={"top_k": {"num_posts": 15}})
    result = page(World(), World().query(), pipeline=Pipeline.build(config))
    pool = result.pool
    assert pool.post_id[:15].tolist() == result.ranked.post_id.tolist()
    assert sorted(pool.post_id) == sorted(result.scored.post_id)
    assert (np.diff(pool["score"][15:]) <= 0).all()


@pytest.mark.parametrize(
    "change",
    [
        {"surface": 3},
        {"exclude_video": True},
        {"in_network_only": True},
        {"topic_ids": (1,)},
        {"excluded_topic_ids": (9,)},
        {"limit": 100},
        {"overrides": {"scorers.out_of_network.factor": 0.5}},
    ],
)
def test_another_kind_of_page_is_made_anew(change):
    """Another surface, wish or setting, or a page too long for what is left, asks all sources."""
    world = a_world()
    pipeline = Pipeline.build(FeedConfig(allow=("scorers.out_of_network.factor",)))
    page(world, world.query(), pipeline=pipeline)
    assert len(world.scored) == 1
    result = page(world, next_query(world, **change), pipeline=pipeline)
    assert entry(result, CACHED).outcome == "skipped"
    if "in_network_only" not in change:
        assert entry(result, TWO_TOWER).outcome == "ok"


def test_whoever_did_something_gets_another_page():
    """One more engagement in the history, and what was predicted before counts no more."""
    world = a_world()
    page(world, world.query())
    did = np.array([1])
    longer = History(1, did, did, did, did.astype(np.int16), did.astype(np.float32), did)

    async def history(user_id):
        return longer

    result = page(world, next_query(world), Disturbed(world, history=history))
    assert entry(result, CACHED).outcome == "skipped"


def test_a_page_that_was_made_without_something_is_not_kept():
    """One failed source is not the next pages' loss."""
    world = a_world()
    result = page(world, world.query(), Disturbed(world, popular=broken))
    assert result.degraded == ("sources.popular",)
    assert world.scored == {}


def test_strangers_and_feeds_without_a_cache_keep_nothing():
    """Without predictions there is nothing to keep; one setting switches all of it off."""
    world = a_world()
    page(world, world.query(STRANGER))
    page(
        world,
        world.query(),
        pipeline=Pipeline.build(FeedConfig(query_hydrators={"cached_posts": None})),
    )
    assert world.scored == {}


def test_a_broken_cache_costs_nothing_but_time():
    """The page is made anew, and says what it was made without."""
    world = World()
    result = page(world, world.query(), Disturbed(world, cached=broken))
    assert len(result.page) == 10
    assert result.degraded == ("query_hydrators.cached_posts",)
    assert entry(result, TWO_TOWER).outcome == "ok"


def test_an_explanation_says_when_a_post_was_scored():
    """The source is named, with the post's place at the time and how long ago that was."""
    world = a_world()
    first = page(world, world.query())
    result = page(world, next_query(world))
    post_id = int(result.page.post_id[0])
    told = Explainer(ACTION_NAMES).explain(result, post_id)
    brought = next(one for one in told.sources if one.source == "cached_posts")
    assert brought.rank == first.pool.post_id.tolist().index(post_id) + 1
    assert (brought.value, brought.meaning) == (NOW_MS / 1000, "scored 60 s before")
    assert "scored 60 s before" in told.summary


def test_the_key_tells_requests_apart():
    """Every part of a request but those that each page asks anew changes the key."""
    query = with_context(World().query(), {"query.history": History.empty(1)})
    free = {"user_id", "limit", "now_ms", "request_id", "seen_ids", "overrides", "context"}
    other = {int: 7, bool: True, str: "x", tuple: (7,), type(None): 0.5}
    for part in fields(query):
        if part.name not in free:
            changed = replace(query, **{part.name: other[type(getattr(query, part.name))]})
            assert pool_key(changed) != pool_key(query), part.name
    assert pool_key(replace(query, seen_ids=(4,), limit=3, request_id="x")) == pool_key(query)


def test_settings_have_a_fingerprint():
    """Feeds with other settings get other names, equal ones the same."""
    world = a_world()
    one, same, other = (
        page(world, world.query(), pipeline=Pipeline.build(FeedConfig(**settings))).query.variant
        for settings in ({}, {}, {"filters": {"age": {"max_age_hours": 5}}})
    )
    assert one == same != other


def test_scored_keeps_no_more_than_it_needs():
    """What is cached does not hold the whole table in memory."""
    world = a_world()
    page(world, world.query())
    (scored,) = world.scored.values()
    assert isinstance(scored, Scored)
    assert scored.p_action.base is None
    assert scored.post_id.base is None

"""The engine's promises: what overlaps, when a page is full, what is recorded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Hits
from pipelines.feed.stages import PostFilter
from tests.pipelines.feed.compose import compose, entry, serve
from tests.pipelines.feed.world import STRANGER, Disturbed, World, broken

WORLD = World()


def test_independent_components_run_side_by_side():
    """Two sources that each wait for the other to have started both finish."""
    started = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def popular(num_posts):
        started["a"].set()
        await started["b"].wait()
        return await WORLD.popular(num_posts)

    async def retrieve(history, num_posts, at_ms):
        started["b"].set()
        await started["a"].wait()
        return await WORLD.retrieve(history, num_posts, at_ms)

    services = Disturbed(WORLD, popular=popular, retrieve=retrieve)
    result = serve(Pipeline.build(), WORLD.query(), services)
    assert result.degraded == ()


def test_a_post_from_two_sources_is_one_row():
    """A page never shows a post twice, and each row knows every source that brought it."""
    result = serve(Pipeline.build(), WORLD.query(), WORLD)
    posts = result.retrieved
    assert len(np.unique(posts.post_id)) == len(posts)
    assert ((posts["popular_rank"] > 0) & (posts["two_tower_rank"] > 0)).sum() > 100
    row = posts.row_of(int(posts.post_id[posts["popular_rank"] == 1][0]))
    assert posts["popular_value"][row] == WORLD.popularity.max()


def test_a_new_viewer_gets_what_is_popular():
    """An unknown viewer is no failure: the feed is said to be a cold start, not degraded."""
    result = serve(Pipeline.build(), WORLD.query(STRANGER), WORLD)
    assert result.cold_start
    assert result.degraded == ()
    assert (result.page["popular_rank"] > 0).all()
    for key in ("sources.in_network", "sources.two_tower", "scorers.actions", "scorers.value"):
        assert (entry(result, key).outcome, entry(result, key).error) == ("skipped", None)


def test_no_candidates_is_an_empty_page():
    """Nothing found is an answer, and nobody's failure."""

    async def nothing(*_):
        return Hits(np.empty(0, np.int64), np.empty(0))

    services = Disturbed(WORLD, popular=nothing, retrieve=nothing, recent=nothing)
    result = serve(Pipeline.build(), WORLD.query(), services)
    assert (len(result.page), result.degraded) == (0, ())


@dataclass(frozen=True, kw_only=True)
class EvenOnly(PostFilter):
    """Drops odd posts, so that a page needs several refills."""

    needs: ClassVar = ("post_id",)
    fails = "open"

    def keep(self, query, page):
        """Look at the id."""
        return page.post_id % 2 == 0


def test_a_page_is_refilled_after_late_drops():
    """What page rules drop is replaced by the next best, in order, until the page is full."""
    result = serve(compose(EvenOnly, post_filters="author_cap"), WORLD.query(limit=25), WORLD)
    even = [i for i in result.ranked.post_id.tolist() if i % 2 == 0]
    assert result.page.post_id.tolist() == even[:25]
    odd_above = [i for i in result.ranked.post_id.tolist() if i % 2]
    dropped = result.dropped["post_filters.even_only"].tolist()
    assert dropped == odd_above[: len(dropped)]
    assert sum(1 for e in result.trace if e.name == "even_only") > 1


def test_a_page_is_short_only_when_posts_run_out():
    """With one author allowed one post, the page holds one post of every author there is."""
    config = FeedConfig(post_filters={"author_cap": {"max_posts": 1}})
    result = serve(Pipeline.build(config), WORLD.query(limit=100), WORLD)
    authors = result.page["author_id"].tolist()
    assert len(set(authors)) == len(authors)
    assert set(authors) == set(result.ranked["author_id"].tolist())


def test_every_filter_reports_all_that_it_dropped():
    """A filter's dropped posts are its own verdict, whatever other filters said."""
    result = serve(Pipeline.build(), WORLD.query(), WORLD)
    posts = result.retrieved
    old = result.query.now_s - posts["created_at_s"] > 48 * 3600
    assert result.dropped["filters.age"].tolist() == posts.post_id[old].tolist()
    dropped = set(np.concatenate([ids for k, ids in result.dropped.items() if "filters." in k]))
    kept = [i for i in posts.post_id.tolist() if i not in dropped]
    assert result.scored.post_id.tolist() == kept


def test_every_component_leaves_a_trace():
    """The trace names each component once (page rules once a refill), in the order they ran."""
    pipeline = Pipeline.build()
    result = serve(pipeline, WORLD.query(), WORLD)
    keys = [c.key for c in pipeline.components if c.stage != "side_effects"]
    assert list(dict.fromkeys(e.key for e in result.trace)) == keys
    age = entry(result, "filters.age")
    assert age.num_in - age.num_out == len(result.dropped["filters.age"])
    skipped = {e.key for e in result.trace if e.outcome == "skipped" and e.error is None}
    assert skipped == {
        # on a first page
        *("scorers.author_fatigue", "scorers.topic_fatigue", "sources.cached_posts"),
        "sources.two_tower_topics",  # of no topics
        *("sources.text_search", "sources.semantic_search", "scorers.text_match"),  # of no search
        *("sources.replies", "scorers.reply_quality"),  # of no post
        *("sources.rising", "scorers.velocity", "scorers.novelty"),  # unless set
        "scorers.interference",  # off
        "sources.prefix",  # of no zoom
    }
    assert all(e.ms >= 0 and e.outcome == "ok" for e in result.trace if e.key not in skipped)


def test_the_page_is_ranked_for_and_recorded_on_its_surface():
    """The ranker and the event log hear of the surface that the request is for."""

    async def scenario():
        world, pipeline = World(), Pipeline.build()
        result = await pipeline.run(replace(world.query(), surface=3), world)
        pipeline.start_side_effects(result, world)
        await pipeline.drain()
        assert world.ranked_for == [3]
        assert world.recorded == [(1, "r1", 3, result.page.post_id.tolist())]
        assert world.remembered == world.recorded

    asyncio.run(scenario())


def test_posts_of_unknown_age_still_fill_a_page():
    """Where no post says when it was made, the default feed is as full as ever."""
    world = World()
    world.created_at_s[:] = np.nan
    assert len(serve(Pipeline.build(), world.query(limit=10), world).page) == 10


def test_side_effects_never_delay_the_reply():
    """The page is there before its side effects have begun, and they end after it."""

    async def scenario():
        recording, go_on = asyncio.Event(), asyncio.Event()

        async def record(*page):
            recording.set()
            await go_on.wait()
            await WORLD.record(*page)

        pipeline, services = Pipeline.build(), Disturbed(WORLD, record=record)
        result = await pipeline.run(WORLD.query(), services)
        assert not recording.is_set()
        task = pipeline.start_side_effects(result, services)
        assert not recording.is_set()  # starting returns before anything ran
        await recording.wait()
        assert not task.done()
        go_on.set()
        await pipeline.drain()
        outcomes = {trace.name: trace.outcome for trace in task.result()}
        assert outcomes.pop("audit") == "skipped"
        assert outcomes == dict.fromkeys(("candidate_cache", "impressions", "served_history"), "ok")
        assert WORLD.recorded[-1] == (1, "r1", 0, result.page.post_id.tolist())

    asyncio.run(scenario())


def test_failures_of_side_effects_are_counted():
    """A side effect that fails raises nowhere and shows in the pipeline's count."""

    async def scenario():
        pipeline, services = Pipeline.build(), Disturbed(WORLD, record=broken)
        result = await pipeline.run(WORLD.query(), services)
        trace = await pipeline.start_side_effects(result, services)
        assert [entry.name for entry in trace if entry.outcome == "failed"] == ["impressions"]
        assert pipeline.failures == {"side_effects.impressions": 1}

    asyncio.run(scenario())


def test_a_cancelled_request_stops():
    """A client that goes away is not a component's failure: the run is cancelled as a whole."""

    async def scenario():
        asked = asyncio.Event()

        async def value(_):
            asked.set()
            await asyncio.Event().wait()

        pipeline = Pipeline.build()
        run = asyncio.create_task(pipeline.run(WORLD.query(), Disturbed(WORLD, value=value)))
        await asked.wait()  # alone in its wave, so nothing but the engine passes it on
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert not pipeline.failures

    asyncio.run(scenario())


def test_requests_do_not_disturb_each_other():
    """Many viewers at once get what each gets alone."""
    pipeline = Pipeline.build()

    async def together():
        runs = (pipeline.run(WORLD.query(user), WORLD) for user in range(1, 13))
        return await asyncio.gather(*runs)

    for user, result in enumerate(asyncio.run(together()), start=1):
        alone = serve(pipeline, WORLD.query(user), WORLD)
        assert result.page.post_id.tolist() == alone.page.post_id.tolist()

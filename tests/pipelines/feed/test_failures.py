"""What survives a failure: which components a page can do without, and what the result says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Hits
from pipelines.feed.stages import Filter, Hydrator, PostFilter, Scorer, Source
from tests.pipelines.feed.compose import compose, entry, serve
from tests.pipelines.feed.world import Disturbed, World, broken

WORLD = World()
QUICK = {"timeout_ms": 20}


async def never(*_):
    """A service that does not answer."""
    await asyncio.Event().wait()


def impatient(stage: str, name: str) -> Pipeline:
    """The default feed with a short time-out for one component."""
    return Pipeline.build(FeedConfig.model_validate({stage: {name: QUICK}}))


@pytest.mark.parametrize("service", ["retrieve", "popular", "recent", "seen", "value", "rank"])
@pytest.mark.parametrize("how", [broken, never])
def test_a_failing_or_slow_service_leaves_the_rest_intact(service, how):
    """With any one service down or silent the page is full, and the result says what is missing."""
    users = {
        "retrieve": ("sources", "two_tower"),
        "popular": ("sources", "popular"),
        "recent": ("sources", "in_network"),
        "seen": ("query_hydrators", "seen"),
        "value": ("scorers", "value"),
        "rank": ("scorers", "actions"),
    }
    stage, name = users[service]
    pipeline = impatient(stage, name)
    result = serve(pipeline, WORLD.query(), Disturbed(WORLD, **{service: how}))
    assert len(result.page) == 10
    assert result.degraded == (f"{stage}.{name}",)
    assert pipeline.failures == {f"{stage}.{name}": 1}
    said = entry(result, f"{stage}.{name}")
    expected = {
        broken: ("failed", "ConnectionError: service is down"),
        never: ("timeout", "TimeoutError"),
    }
    assert (said.outcome, said.error) == expected[how]
    assert said.ms < 2_000  # its own time-out of 20 ms, not one for all


def test_posts_of_unknown_standing_are_never_shown():
    """Filters that protect fail closed: no graph or no post store means no posts, and says so."""
    for service, culprit in (("graph", "query_hydrators.graph"), ("posts", "hydrators.post_facts")):
        result = serve(Pipeline.build(), WORLD.query(), Disturbed(WORLD, **{service: broken}))
        assert len(result.page) == 0
        assert result.degraded == (culprit,)
        assert set(result.dropped["filters.muted_author"]) == set(result.retrieved.post_id)
        assert entry(result, "filters.muted_author").num_out == 0
    muted = entry(result, "filters.muted_author")
    assert muted.outcome == "skipped"
    assert muted.error == "needs 'author_id', which hydrators.post_facts failed to provide"


async def _two_rows(*_):
    return {"extra": np.zeros(2)}


async def _integers(_, __, posts, ___):
    return {"extra": np.zeros(len(posts), np.int64)}


async def _other_name(_, __, posts, ___):
    return {"more": np.zeros(len(posts))}


@pytest.mark.parametrize(
    ("result_of", "message"),
    [
        (_two_rows, "BadResultError: extra has shape [2], expected"),
        (_integers, "BadResultError: extra is int64, expected float64"),
        (_other_name, "BadResultError: returned ['more'], but declares that it provides ['extra']"),
    ],
)
@pytest.mark.parametrize(("stage", "method"), [(Hydrator, "hydrate"), (Scorer, "score")])
def test_a_result_of_the_wrong_form_is_a_failure(result_of, message, stage, method):
    """Wrong length, dtype or name: the columns are left out and all others are as without it."""
    body = {"__doc__": "Wrong.", "needs": ("post_id",), "fails": "open", method: result_of}
    cls = type("Wrong", (stage,), {**body, "provides": {"extra": np.float64}})
    result = serve(compose(dataclass(frozen=True, kw_only=True)(cls)), WORLD.query(), WORLD)
    assert entry(result, f"{cls.stage}.wrong").error.startswith(message)
    assert "extra" not in result.page
    same = serve(Pipeline.build(), WORLD.query(), WORLD)
    assert result.page.post_id.tolist() == same.page.post_id.tolist()


@pytest.mark.parametrize(
    "hits",
    [
        Hits(np.array([1, 1]), np.array([0.5, 0.4])),
        Hits(np.array([1.0]), np.array([0.5])),
        Hits(np.array([1, 2]), np.array([0.5])),
        None,
    ],
)
def test_a_source_with_malformed_hits_brings_nothing(hits):
    """A post twice, ids that are no integers, values that are missing: that source is left out."""

    async def popular(_):
        return hits

    result = serve(Pipeline.build(), WORLD.query(), Disturbed(WORLD, popular=popular))
    assert result.degraded == ("sources.popular",)
    assert not result.retrieved["popular_rank"].any()
    assert len(result.page) == 10


@pytest.mark.parametrize("bad", [np.ones(3, np.bool_), None, ValueError("no")])
@pytest.mark.parametrize("fails", ["open", "closed"])
@pytest.mark.parametrize("stage", [Filter, PostFilter])
def test_a_filter_fails_as_it_declares(bad, fails, stage):
    """Open: as if it were not there. Closed: no posts. Both are reported."""

    def keep(self, query, posts):
        if isinstance(bad, Exception):
            raise bad
        return bad

    body = {"__doc__": "Faulty.", "needs": (), "fails": fails, "keep": keep}
    cls = dataclass(frozen=True, kw_only=True)(type("Faulty", (stage,), body))
    result = serve(compose(cls), WORLD.query(), WORLD)
    assert result.degraded == (f"{cls.stage}.faulty",)
    assert len(result.page) == (10 if fails == "open" else 0)


@pytest.mark.parametrize("fails", ["open", "closed"])
def test_a_source_fails_as_it_declares(fails):
    """A source that fails closed empties the feed; one that fails open brings nothing."""
    body = {"__doc__": "Faulty.", "needs": (), "fails": fails, "find": broken}
    cls = dataclass(frozen=True, kw_only=True)(type("Faulty", (Source,), body))
    result = serve(compose(cls), WORLD.query(), WORLD)
    assert len(result.page) == (10 if fails == "open" else 0)


@pytest.mark.parametrize(
    ("stage", "methods"),
    [(Source, {"find": broken}), (Scorer, {"score": broken, "provides": {"extra": np.float64}})],
)
def test_a_component_that_cannot_say_whether_it_is_enabled_has_failed(stage, methods):
    """An error in `enabled` is in the trace like any other, and the page is full without it."""

    def enabled(self, query):
        raise KeyError("language")

    body = {"__doc__": "Faulty.", "needs": (), "fails": "open", "enabled": enabled, **methods}
    cls = dataclass(frozen=True, kw_only=True)(type("Faulty", (stage,), body))
    result = serve(compose(cls), WORLD.query(), WORLD)
    said = entry(result, f"{cls.stage}.faulty")
    assert (said.outcome, said.error) == ("failed", "KeyError: 'language'")
    assert result.degraded == (said.key,)
    assert len(result.page) == 10


def test_without_the_ranker_the_order_is_popularity():
    """A failed ranker is a flag and popularity order, never a random page."""
    pipeline = compose(scorers="author_diversity out_of_network", post_filters="author_cap")
    result = serve(pipeline, WORLD.query(limit=20), Disturbed(WORLD, rank=broken))
    assert result.degraded == ("scorers.actions",)
    assert not result.cold_start
    popularity = result.page["popularity"]
    assert (np.diff(popularity) <= 0).all()
    assert popularity[0] == result.scored["popularity"].max()


def test_a_failed_history_is_no_cold_start():
    """Not knowing whether a viewer is known is a failure, not a new viewer."""
    result = serve(Pipeline.build(), WORLD.query(), Disturbed(WORLD, history=broken))
    assert (result.cold_start, result.degraded) == (False, ("query_hydrators.history",))
    assert len(result.page) == 10

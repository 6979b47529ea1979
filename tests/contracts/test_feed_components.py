"""What every component of the feed promises; a new file in a stage folder is tested by existing.

Tables are made up from what components declare: a column's values from the dtype its
provider names, a part of the query from its type.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.features import History
from pipelines.feed.bloom import BloomFilter
from pipelines.feed.checks import columns_of, context_of, rows_of, table_of, verdicts
from pipelines.feed.discover import check_frozen, discover
from pipelines.feed.services import Blend, Graph, Scored, Served, Viewer
from pipelines.feed.stages import STAGES, Component, FeedQuery, QueryHydrator, Waiting, with_context
from pipelines.feed.table import Candidates
from pipelines.schema import ACTIONS
from tests.pipelines.feed.world import BLEND, NOW_MS, World

CLASSES = [cls for stage in discover().values() for cls in stage.values()]
WORLD = World(num_posts=40)
WORLD.thread(WORLD.post_id // 2)  # all of them answer post 1, or an answer to it
NUM_POSTS = st.integers(0, 12)
WIDTH = {
    "p_action": len(ACTIONS),
    "action_weight": len(ACTIONS),
    "topic_ids": 3,
}  # columns that are not one value a post
KEYWORDS = [(), ("cat",), ("a cat", "rain")]
SCORED = Scored(
    post_id=np.array([9, 4, 30, 2, 7, 21, 3]),
    p_action=np.full((7, len(ACTIONS)), 0.5, np.float32),
    left_out=np.array([5, 8]),
    at_ms=NOW_MS - 1000,
)
CREATED_AT_S = st.sampled_from([NOW_MS / 1000 - 60, NOW_MS / 1000 - 10**6, np.nan])
SMALL_IDS = st.lists(st.integers(1, 9), unique=True, max_size=6).map(
    lambda ids: np.array(sorted(ids), np.int64)
)


def of_stage(*stages: str) -> Any:
    """Parametrize a test with every component of some stages, with its default settings."""
    members = [cls() for cls in CLASSES if cls.stage in stages]
    return pytest.mark.parametrize("component", members, ids=lambda component: component.key)


@cache
def providers() -> dict[str, Any]:
    """Column or `query.` part -> its declared dtype or type."""
    return {name: kind for cls in CLASSES for name, kind in cls.provides.items()}


@st.composite
def queries(draw: st.DrawFn, needs: tuple[str, ...]) -> FeedQuery:
    """A request with those parts of the context that `needs` names, and no others."""
    query = FeedQuery(
        user_id=draw(st.integers(1, 9)),
        limit=5,
        now_ms=NOW_MS,
        request_id="r",
        in_network_only=draw(st.booleans()),
        exclude_video=draw(st.booleans()),
        topic_ids=tuple(draw(SMALL_IDS).tolist()),
        excluded_topic_ids=tuple(draw(SMALL_IDS).tolist()),
        seen_ids=tuple(draw(SMALL_IDS).tolist()),
        bloom_filters=draw(st.sampled_from([(), (BloomFilter.of([2, 5]),)])),
        served_ids=tuple(draw(SMALL_IDS).tolist()),
        is_bottom_request=draw(st.booleans()),
        text=draw(st.sampled_from(["", "post 3", "rain"])),
        focal_post_id=draw(st.integers(0, 9)),
    )
    context = {}
    for name in needs:
        kind = providers().get(name)
        if not name.startswith("query."):
            continue
        if kind is np.ndarray:
            context[name] = draw(SMALL_IDS)
        elif kind is Graph:
            ids = [draw(SMALL_IDS) for _ in range(5)]
            context[name] = Graph(*ids, draw(st.sampled_from(KEYWORDS)), draw(SMALL_IDS))
        elif kind is Served:
            ids = np.array(draw(st.lists(st.integers(1, 9), max_size=6)), np.int64)
            at_ms = NOW_MS - 60_000 * np.arange(len(ids))[::-1]
            context[name] = Served(ids, ids % 5, np.stack([ids % 4, ids * 0], axis=1), at_ms)
        elif kind is Blend:
            context[name] = BLEND
        elif kind is Viewer:
            context[name] = Viewer(draw(st.sampled_from([-1, 5, 20_000])), draw(CREATED_AT_S))
        elif kind in (History, History | None):
            context[name] = History.empty(query.user_id)
        elif kind == Scored | None:
            context[name] = draw(st.sampled_from([None, SCORED]))
        else:
            raise NotImplementedError(f"{name}: say here how to make up a {kind}")
    return with_context(query, context)


@st.composite
def tables(draw: st.DrawFn, columns: tuple[str, ...], num_posts: int | None = None) -> Candidates:
    """Posts 1 to C in any order with some columns; ids are few, so that they meet."""
    num = draw(NUM_POSTS) if num_posts is None else num_posts
    made = {"post_id": np.array(draw(st.permutations(range(1, num + 1))), np.int64)}
    for name in columns:
        if name == "post_id" or name.startswith("query."):
            continue
        dtype, width = np.dtype(providers()[name]), WIDTH.get(name, 1)
        size = num * width
        flat = np.array(draw(st.lists(_values(name), min_size=size, max_size=size)), dtype)
        made[name] = flat.reshape(num, width) if name in WIDTH else flat
    return Candidates(made)


def _values(name: str) -> st.SearchStrategy:
    kind = np.dtype(providers()[name]).kind
    if name == "p_action":
        return st.floats(0, 1, width=32)
    if kind == "U":
        return st.sampled_from(["", "en", "pt-BR"])
    if kind == "b":
        return st.booleans()
    if kind == "i" and "num_" in name:
        return st.sampled_from([-1, 0, 3, 5000])
    if kind == "i":
        return st.integers(0, 9)
    if name.endswith("_at_s"):
        hours_ago = st.floats(-1, 200) | st.just(48.0) | st.just(np.nan)
        return hours_ago.map(lambda hours: NOW_MS / 1000 - 3600 * hours)
    return st.floats(0, 1) | st.just(np.nan)


def contents(posts: Candidates) -> dict[str, bytes]:
    """Everything in a table, to compare later."""
    return {name: values.tobytes() for name, values in posts.items()}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.stage}.{cls.name}")
def test_declares_itself(cls: type[Component]):
    """A component says what it is for, what it needs and provides, and what its failure means."""
    assert inspect.getdoc(cls)
    assert len(inspect.getdoc(cls).splitlines()[0]) <= 100
    assert cls.stage in STAGES
    assert cls.fails in ("closed", "open")
    for name in cls.needs:
        assert name == "post_id" or name in providers()
    method = next(
        m for m in ("keep", "hydrate", "find", "score", "select", "run") if m in vars(cls)
    )
    assert inspect.getdoc(vars(cls)[method])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.stage}.{cls.name}")
def test_is_an_immutable_value(cls: type[Component]):
    """Defaults suffice to build it; equal settings are equal; it cannot change; it pickles."""
    check_frozen(cls)
    component = cls()
    assert component == cls()
    assert pickle.loads(pickle.dumps(component)) == component
    for field in fields(component):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(component, field.name, 1)
    assert inspect.iscoroutinefunction(getattr(component, "keep", None)) is False
    if isinstance(component, Waiting):
        assert component.timeout_ms > 0


@of_stage("filters")
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_filter_judges_each_post_alone(component, data):
    """The verdict on a post is the same in any subset, in any order, alone and every time."""
    query, posts = data.draw(queries(component.needs)), data.draw(tables(component.needs))
    before = contents(posts)
    keep = verdicts(component.keep(query, posts), len(posts))
    assert contents(posts) == before
    rows = data.draw(st.lists(st.integers(0, max(0, len(posts) - 1)), unique=True))
    rows = np.array(rows if len(posts) else [], np.int64)
    assert component.keep(query, posts.take(rows)).tolist() == keep[rows].tolist()
    alone = [component.keep(query, posts.take(np.array([row])))[0] for row in rows]
    assert alone == keep[rows].tolist()
    assert component.keep(query, posts).tolist() == keep.tolist()


@of_stage("post_filters")
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_page_rule_judges_every_post_of_the_page(component, data):
    """One verdict a post, the same each time, and the page is left as it was."""
    query, page = data.draw(queries(component.needs)), data.draw(tables(component.needs))
    before = contents(page)
    keep = verdicts(component.keep(query, page), len(page))
    assert contents(page) == before
    assert component.keep(query, page).tolist() == keep.tolist()


@of_stage("selectors")
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_selector_chooses_rows_once(component, data):
    """Rows of the table, none twice, the same each time."""
    query, posts = data.draw(queries(component.needs)), data.draw(tables(component.needs))
    before = contents(posts)
    rows = rows_of(posts, component.select(query, posts))
    assert contents(posts) == before
    assert component.select(query, posts).tolist() == rows.tolist()


@of_stage("scorers", "hydrators")
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_columns_are_as_declared(component, data):
    """Exactly the declared columns, one row a post, with and without what it only wants.

    Tables and queries hold what is declared and nothing else: using more fails here.
    """
    query, num = data.draw(queries(component.needs)), data.draw(NUM_POSTS)
    posts = data.draw(tables(component.needs, num))
    more = tuple(name for name in component.wants if "*" not in name)
    full = data.draw(queries((*component.needs, *more)))
    given = ((query, posts), (full, data.draw(tables((*component.needs, *more), num))))
    for given_query, given_posts in given:
        before = contents(given_posts)
        assert component.stage == "hydrators" or component.enabled(given_query) in (True, False)
        columns = asyncio.run(_work(component)(given_query, given_posts, WORLD))
        columns_of(component, columns, num)
        assert contents(given_posts) == before


@of_stage("hydrators")
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_facts_follow_their_posts(component, data):
    """In another order of posts the same facts come in that order."""
    query, posts = data.draw(queries(component.needs)), data.draw(tables(component.needs))
    order = np.array(data.draw(st.permutations(range(len(posts)))), np.int64)
    facts = asyncio.run(component.hydrate(query, posts, WORLD))
    moved = asyncio.run(component.hydrate(query, posts.take(order), WORLD))
    for name, values in facts.items():
        np.testing.assert_array_equal(moved[name], values[order])


@of_stage("sources")
def test_source_brings_posts_best_first(component):
    """No post twice, at most as many as asked, values not increasing."""
    few = type(component)(num_posts=7)
    asked = replace(WORLD.query(2), text="a post like 7", focal_post_id=1, zoom=0.5)
    query = asyncio.run(_hydrated(asked))
    query = with_context(query, {"query.cached_posts": SCORED})
    hits = asyncio.run(few.find(query, WORLD))
    found = table_of(few, hits)
    assert 0 < len(found) <= 7
    assert (np.diff(hits.value) <= 0).all()
    assert few.describe(query, float(hits.value[0]))


@of_stage("query_hydrators")
@pytest.mark.parametrize("user_id", [2, 10_000])
def test_query_hydrator_finds_what_it_declares(component, user_id):
    """For a known viewer and for one never heard of, with and without what it only wants."""
    query = WORLD.query(user_id)
    for given_query in (asyncio.run(_hydrated(query)), *([] if component.needs else [query])):
        found = asyncio.run(component.hydrate(given_query, WORLD))
        context_of(component, found)


@of_stage("side_effects")
def test_side_effect_leaves_the_page_alone(component):
    """The served page is only read, an empty one too."""
    columns = {"post_id": np.array([3, 1], np.int64)}
    for name in component.needs:
        if name in providers() and not name.startswith("query."):
            shape = (2, WIDTH[name]) if name in WIDTH else 2
            columns[name] = np.zeros(shape, providers()[name])
    page = Candidates(columns)
    query = asyncio.run(_hydrated(WORLD.query(2)))
    assert component.enabled(query) in (True, False)
    for given_page in (page, page.take(slice(0))):
        before = contents(given_page)
        asyncio.run(component.run(query, given_page, World()))
        assert contents(given_page) == before


def _work(component: Any) -> Any:
    return component.hydrate if component.stage == "hydrators" else component.score


async def _hydrated(query: FeedQuery) -> FeedQuery:
    hydrators = [cls for cls in CLASSES if issubclass(cls, QueryHydrator)]
    for cls in sorted(hydrators, key=lambda cls: len(cls.needs)):  # what needs nothing goes first
        query = with_context(query, await cls().hydrate(query, WORLD))
    return query

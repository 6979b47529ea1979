"""What is known of the viewer: the bundle's part, and what happened since."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from pipelines.features import History
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.query_hydrators.seen import Seen
from pipelines.feed.services import Served
from pipelines.schema import ACTION_NAMES
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import NOW_MS, STRANGER, Disturbed, World, broken


def acted(user_id: int, *post_ids: int) -> History:
    """A viewer who liked some posts of author 1, a second apart."""
    num, post_id = len(post_ids), np.array(post_ids, np.int64)
    return History(
        user_id=user_id,
        post_id=post_id,
        author_id=np.ones(num, np.int64),
        did=np.full(num, 1 << ACTION_NAMES.index("favorite")),
        surface=np.zeros(num, np.int16),
        dwell_s=np.full(num, np.nan, np.float32),
        at_ms=NOW_MS - 1000 * np.arange(num, 0, -1),
    )


@pytest.mark.parametrize("user_id", [1, STRANGER])
def test_what_was_done_since_is_part_of_the_history(user_id):
    """The history ends with the newest actions; who did something is nobody's cold start."""
    world = World()
    world.acts[user_id] = acted(user_id, 7, 5)
    result = serve(Pipeline.build(), world.query(user_id), world)
    history = result.query["history"]
    assert history.post_id.tolist()[-2:] == [7, 5]
    assert history.at_ms.tolist()[-2:] == [NOW_MS - 2000, NOW_MS - 1000]
    assert not result.cold_start


def test_a_stranger_who_did_nothing_is_a_cold_start():
    """No history and no actions are no history."""
    result = serve(Pipeline.build(), World().query(STRANGER), World())
    assert result.cold_start
    assert result.degraded == ()


def test_seen_is_what_was_shown_done_or_told():
    """Posts of the history, of pages, of recent actions and of the client, sorted, each once."""
    world = World()
    world.acts[1] = acted(1, 9, 300)
    pages, none = np.array([9, 4], np.int64), np.zeros((2, 0), np.int64)
    world.pages = Served(pages, pages, none, np.full(2, NOW_MS - 5000))
    query = world.query(1)
    query = type(query)(**{**vars(query), "seen_ids": (2, 4)})
    seen = serve(Pipeline.build(), query, world).query["seen"]
    old = world.post_id[world.post_id % 17 == 1].tolist()
    assert seen.tolist() == sorted({*old, 9, 300, 4, 2})


def test_without_the_store_of_viewers_the_bundle_still_counts():
    """What is down is named; history and seen are the bundle's, and muted authors stay away."""
    world = World()
    world.acts[1] = acted(1, 7)
    down = Disturbed(world, recent_actions=broken, served=broken)
    result = serve(Pipeline.build(), world.query(1), down)
    assert result.degraded == ("query_hydrators.recent_actions", "query_hydrators.served")
    assert len(result.query["history"].post_id) == 0
    assert result.query["seen"].tolist() == world.post_id[world.post_id % 17 == 1].tolist()
    assert len(result.page) == 10


def test_who_is_blocked_unknown_empties_the_page():
    """A graph that cannot be told leaves no post: whom the viewer blocks might be on the page."""
    world = World()
    result = serve(Pipeline.build(), world.query(1), Disturbed(world, graph=broken))
    assert len(result.page) == 0
    assert "query_hydrators.graph" in result.degraded


def test_posts_that_the_client_saw_are_seen():
    """What the client says it showed counts like what the server knows."""
    world = World()
    query = replace(world.query(1), seen_ids=(5, 2))
    known = asyncio.run(Seen().hydrate(world.query(1), world))["query.seen"]
    assert not np.isin(query.seen_ids, known).all()
    seen = asyncio.run(Seen().hydrate(query, world))["query.seen"]
    assert seen.tolist() == sorted({2, 5, *known.tolist()})

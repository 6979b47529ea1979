"""A request for topics gets posts on them, wherever they are in the viewer's space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import STRANGER, World

RARE = 3  # topic of every tenth post


@pytest.fixture
def world() -> World:
    """One topic a post."""
    world = World()
    world.facts["topic_ids"] = np.stack([np.where(world.post_id % 10, 1, RARE)] * 2, axis=1)
    return world


def test_posts_on_a_topic_are_found_below_the_top(world):
    """The source for topics brings what `two_tower` does not reach, best first."""
    config = FeedConfig(
        sources={"two_tower": {"num_posts": 20}, "popular": None, "in_network": None}
    )
    pipeline = Pipeline.build(config)
    result = serve(pipeline, replace(world.query(3), topic_ids=(RARE,)), world)
    posts = result.retrieved
    on_topic = posts["two_tower_topics_rank"] > 0
    assert set(posts.post_id[on_topic]) == set(world.post_id[world.post_id % 10 == 0])
    assert (posts["two_tower_rank"][on_topic] == 0).sum() > 20
    assert set(result.page.post_id % 10) == {0}
    assert len(result.page) == 10


@pytest.mark.parametrize(
    "changes",
    [{"topic_ids": ()}, {"user_id": STRANGER}, {"in_network_only": True}],
)
def test_it_is_asked_only_where_it_can_help(world, changes):
    """Without topics, without a viewer's place, and for followed authors alone it is left out."""
    query = replace(world.query(3), **{"topic_ids": (RARE,)} | changes)
    trace = {entry.name: entry for entry in serve(Pipeline.build(), query, world).trace}
    assert trace["two_tower_topics"].outcome == "skipped"
    assert trace["two_tower_topics"].error is None

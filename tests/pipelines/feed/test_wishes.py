"""What filters do to whole pages: wishes hold, and nothing is dropped without a reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.feed.discover import discover
from pipelines.feed.pipeline import Pipeline
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import STRANGER, World, broken

WORLD = World()


def test_a_page_keeps_to_the_wishes_of_its_request():
    """Wishes hold for the whole page, whatever sources bring; nobody else's page changes."""
    world = World()
    world.facts["topic_ids"] = np.stack([world.post_id // 7 % 3 + 1, world.post_id * 0], axis=1)
    plain = serve(Pipeline.build(), world.query(), world)
    wishes = {"topic_ids": (2, 3), "excluded_topic_ids": (3,), "in_network_only": True}
    wishes["seen_ids"] = tuple(plain.page.post_id[:3].tolist())
    result = serve(Pipeline.build(), replace(world.query(), **wishes), world)
    assert len(result.page) > 0
    assert (result.page["topic_ids"][:, 0] == 2).all()
    assert result.page["in_network"].all()
    assert not np.isin(result.page.post_id, wishes["seen_ids"]).any()
    assert (result.page["popular_rank"] == 0).all()
    assert serve(Pipeline.build(), world.query(), world).page.post_id.tolist() == (
        plain.page.post_id.tolist()
    )


def test_defaults_drop_nothing_without_reason():
    """In a world without threads, texts and wishes, a stranger lacks what is old or was seen."""
    result = serve(Pipeline.build(), WORLD.query(STRANGER), WORLD)
    dropping = {key for key, ids in result.dropped.items() if len(ids)}
    assert dropping == {"filters.age", "filters.previously_seen"}


@pytest.mark.parametrize(
    "name", ["muted_author", "muted_keyword", "unknown_post", "topics", "ineligible_subscription"]
)
def test_filters_that_protect_fail_closed(name, monkeypatch):
    """Rules that viewers rely on let nothing through when they cannot judge."""

    def fail(*_):
        raise ValueError("no verdict")

    monkeypatch.setattr(discover()["filters"][name], "keep", fail)
    result = serve(Pipeline.build(), WORLD.query(), WORLD)
    assert (len(result.page), result.degraded) == (0, (f"filters.{name}",))


def test_unread_texts_are_not_shown_to_who_muted_words():
    """If texts cannot be searched, viewers with muted words get no posts, and others all."""
    world = World()

    async def graph(user_id):
        found = await WORLD.graph(user_id)
        return replace(found, muted_keywords=("rain",)) if user_id == 2 else found

    world.graph, world.mentions = graph, broken  # type: ignore[method-assign]
    muting, other = (serve(Pipeline.build(), world.query(user_id), world) for user_id in (2, 3))
    assert (len(muting.page), muting.degraded) == (0, ("hydrators.muted_words",))
    assert (len(other.page), other.degraded) == (10, ())

"""Slots stand where feed.yaml says or not at all; suggestions are of authors liked and strange."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError, check
from pipelines.features import History
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Graph
from pipelines.feed.slots import Slot, placed, who_to_follow
from pipelines.schema import ACTION_NAMES
from serve.stores.slots import SlotStore
from tests.pipelines.feed.world import BLEND, NOW_MS

DAY_MS = 24 * 3600 * 1000


def slot(kind: str, position: int, **settings: Any) -> Slot:
    """As a line of feed.yaml."""
    return Slot(kind=kind, position=position, **settings)


def where(slots: list[Slot], num_posts: int, shown: dict[str, int] | None = None) -> list:
    """Kinds and positions on a page of the world's only instant."""
    return [(one.kind, one.position) for one in placed(slots, num_posts, shown or {}, NOW_MS)]


@pytest.mark.parametrize(
    ("slots", "num_posts", "expected"),
    [
        ([slot("prompt", 0), slot("follow", 6)], 20, [("prompt", 0), ("follow", 6)]),
        ([slot("prompt", 0), slot("follow", 6)], 6, [("prompt", 0), ("follow", 6)]),
        ([slot("prompt", 0), slot("follow", 6)], 5, [("prompt", 0)]),
        ([slot("follow", 6)], 0, []),
        ([slot("ad", 2, every=4)], 10, [("ad", 2), ("ad", 6), ("ad", 10)]),
        ([slot("ad", 2, every=2)], 8, [("ad", 2), ("ad", 6)]),
        ([slot("follow", 6), slot("ad", 1, every=3)], 9, [("ad", 1), ("follow", 6)]),
        (
            [slot("a", 3, min_posts_between=0), slot("b", 3, min_posts_between=0)],
            9,
            [("a", 3), ("b", 3)],
        ),
        ([slot("a", 3, min_posts_between=0), slot("b", 5, min_posts_between=5)], 9, [("a", 3)]),
    ],
)
def test_slots_stand_where_they_are_put(slots, num_posts, expected):
    """Positions hold; what does not fit, or stands too close to an earlier one, is left out."""
    assert where(slots, num_posts) == expected


SLOTS = st.lists(
    st.builds(
        Slot,
        kind=st.sampled_from("abc"),
        position=st.integers(0, 12),
        every=st.none() | st.integers(1, 5),
        min_posts_between=st.integers(0, 4),
    ),
    max_size=4,
)


@given(SLOTS, st.integers(0, 20))
def test_slots_keep_their_distance(slots, num_posts):
    """No two are closer than the smallest gap asked for, in order, and none is past the page."""
    found = [one.position for one in placed(slots, num_posts, {}, NOW_MS)]
    assert found == sorted(found)
    assert all(position <= num_posts for position in found)
    gap = min((one.min_posts_between for one in slots), default=0)
    assert all(b - a >= gap for a, b in itertools.pairwise(found))
    assert bool(found) == any(one.position <= num_posts for one in slots)


def test_a_kind_rests_after_it_was_shown():
    """For `fatigue_s` from when it was last shown, for each kind by itself."""
    slots = [slot("follow", 1, fatigue_s=60), slot("prompt", 5)]
    both = [("follow", 1), ("prompt", 5)]
    assert where(slots, 9, {"follow": NOW_MS - 59_999, "prompt": NOW_MS}) == both[1:]
    assert where(slots, 9, {"follow": NOW_MS - 60_000}) == both


def test_what_was_shown_is_remembered_of_the_viewers_seen_last():
    """The newest instant of each kind; the viewer longest unseen is forgotten."""
    store = SlotStore(num_viewers=2)
    store.add(1, ["a", "b"], 5)
    store.add(1, ["b"], 7)
    store.add(2, ["a"], 8)
    assert dict(store.of(1)) == {"a": 5, "b": 7}
    store.add(3, [], 8)
    store.add(1, ["a"], 9)
    store.add(4, ["a"], 9)
    assert [dict(store.of(user_id)) for user_id in (1, 2, 3)] == [{"a": 9, "b": 7}, {}, {}]


def test_slots_are_read_from_the_feed_file():
    """None by default; a wrong key is named."""
    assert Pipeline.build().slots == ()
    found = check({"slots": [{"kind": "prompt", "position": 0}]}, FeedConfig, "feed")
    assert Pipeline.build(found).slots == (Slot(kind="prompt", position=0),)
    with pytest.raises(ConfigError, match="positon"):
        check({"slots": [{"kind": "prompt", "positon": 0}]}, FeedConfig, "feed")


def context(done: list[tuple[int, str]]) -> dict[str, Any]:
    """A viewer who follows 1, blocks 2, mutes 3, and did this to posts of these authors."""
    author_id = np.array([author for author, _ in done], np.int64)
    did = np.array([1 << ACTION_NAMES.index(action) for _, action in done], np.int64)
    blank = History.empty(9)
    surface, dwell_s = did.astype(np.int16), np.zeros(len(did), np.float32)
    history = replace(
        blank,
        post_id=did,
        author_id=author_id,
        did=did,
        surface=surface,
        dwell_s=dwell_s,
        at_ms=did,
    )
    graph = Graph(np.array([1]), np.array([2]), np.array([3]))
    return {"history": history, "graph": graph, "blend": BLEND}


def test_liked_strangers_are_suggested():
    """By what all that was done is worth; nobody followed, blocked, muted, reported or oneself."""
    done = [(author, "favorite") for author in (0, 1, 2, 3, 4, 5, 6, 9)]
    done += [(5, "favorite"), (6, "report"), (7, "reply"), (8, "profile_click")]
    assert who_to_follow(context(done), 9, 5).tolist() == [7, 5, 4]
    assert who_to_follow(context(done), 9, 1).tolist() == [7]
    assert who_to_follow(context([]), 9, 5).tolist() == []
    assert who_to_follow({"history": None}, 9, 5).tolist() == []

"""The exact rule of each filter and mark, at its edges."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pipelines.feed.filters.age import Age
from pipelines.feed.filters.muted_author import MutedAuthor
from pipelines.feed.filters.previously_seen import PreviouslySeen
from pipelines.feed.filters.self_post import SelfPost
from pipelines.feed.filters.unknown_post import UnknownPost
from pipelines.feed.hydrators.in_network import InNetwork
from pipelines.feed.post_filters.author_cap import AuthorCap
from pipelines.feed.services import Graph
from pipelines.feed.stages import FeedQuery, with_context
from pipelines.feed.table import Candidates
from tests.pipelines.feed.world import World

IDS = np.array([1, 2, 3, 4])
QUERY = with_context(
    FeedQuery(user_id=3, limit=10, now_ms=10_000_000_000, request_id="r"),
    {
        "query.seen": np.array([2, 4]),
        "query.graph": Graph(IDS[:0], blocked=np.array([1]), muted=np.array([4])),
    },
)
NOW_S = 10_000_000.0


@pytest.mark.parametrize(
    ("component", "column", "values", "kept"),
    [
        (Age(), "created_at_s", NOW_S - 3600 * np.array([0, 48, 48.001, np.nan]), "yyny"),
        (
            Age(drop_unknown=True),
            "created_at_s",
            NOW_S - 3600 * np.array([0, 48, 48.001, np.nan]),
            "yynn",
        ),
        (Age(max_age_hours=1), "created_at_s", np.array([NOW_S + 60, 0, NOW_S, 0]), "ynyn"),
        (SelfPost(), "author_id", np.array([3, 2, 3, 0]), "nyny"),
        (MutedAuthor(), "author_id", np.array([1, 2, 0, 4]), "nyyn"),
        (PreviouslySeen(), "author_id", IDS, "ynyn"),
        (UnknownPost(), "known", np.array([True, False, True, False]), "ynyn"),
        (AuthorCap(max_posts=1), "author_id", np.array([5, 5, 6, 5]), "ynyn"),
        (AuthorCap(max_posts=2), "author_id", np.array([5, 5, 5, 6]), "yyny"),
        (AuthorCap(max_posts=1), "author_id", np.array([0, 0, 0, 5]), "yyyy"),
    ],
)
def test_rule(component, column, values, kept):
    """Each rule keeps exactly the posts marked y."""
    posts = Candidates({"post_id": IDS, column: values})
    assert component.keep(QUERY, posts).tolist() == [mark == "y" for mark in kept]


def test_own_and_followed_posts_are_in_network():
    """In network: by the viewer or by someone followed; an unknown author is not."""
    graph = Graph(np.array([2]), IDS[:0], IDS[:0])
    query = with_context(QUERY, {"query.graph": graph})
    posts = Candidates({"post_id": IDS, "author_id": np.array([2, 3, 1, 0])})
    marks = asyncio.run(InNetwork().hydrate(query, posts, World()))
    assert marks["in_network"].tolist() == [True, True, False, False]

"""The exact rule of each rule of the page, at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.post_filters.author_cap import AuthorCap
from pipelines.feed.post_filters.conversation_dedup import ConversationDedup
from pipelines.feed.post_filters.repost_dedup import RepostDedup
from pipelines.feed.table import Candidates
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.four_posts import QUERY, kept
from tests.pipelines.feed.world import World


@pytest.mark.parametrize(
    ("component", "columns", "expected"),
    [
        (AuthorCap(max_posts=1), {"author_id": [5, 5, 6, 5]}, "ynyn"),
        (AuthorCap(max_posts=2), {"author_id": [5, 5, 5, 6]}, "yyny"),
        (AuthorCap(max_posts=1), {"author_id": [0, 0, 0, 5]}, "yyyy"),
        (AuthorCap(min_gap=1), {"author_id": [5, 5, 6, 5]}, "ynyy"),
        (AuthorCap(min_gap=1), {"author_id": [5, 5, 5, 6]}, "ynny"),
        (AuthorCap(min_gap=2), {"author_id": [5, 6, 5, 7]}, "yyny"),
        (AuthorCap(min_gap=9), {"author_id": [0, 0, 5, 5]}, "yyyn"),
        (RepostDedup(), {"repost_of_post_id": [0, 1, 0, 3]}, "ynyn"),
        (RepostDedup(), {"repost_of_post_id": [2, 0, 9, 9]}, "ynyn"),
        (RepostDedup(keep_originals=True), {"repost_of_post_id": [2, 0, 9, 9]}, "yyyn"),
        (
            ConversationDedup(),
            {"conversation_id": [7, 7, 8, 8], "score": [2.0, 1.0, 1.0, 1.0]},
            "ynyn",
        ),
        (
            ConversationDedup(),
            {"conversation_id": [7, 7, 7, 8], "score": [1.0, 3.0, 2.0, 0.0]},
            "nyny",
        ),
        (
            ConversationDedup(),
            {"conversation_id": [7, 7, 8, 8], "score": [np.nan, 0.0, np.nan, np.nan]},
            "nyyn",
        ),
    ],
)
def test_page_rule(component, columns, expected):
    """Each rule of the page keeps exactly the posts marked y."""
    assert kept(component, **columns) == expected


def test_the_first_rule_for_reposts_depends_on_the_order():
    """By it an original stays below its repost, and two reposts are one only after the first."""
    old, new = RepostDedup(keep_originals=True), RepostDedup()
    for of, by_old, by_new in (
        ([0, 1, 1, 0], "ynny", "ynny"),  # the original first
        ([2, 0, 2, 0], "yyny", "ynny"),  # a repost, the original, another repost
        ([9, 9, 9, 0], "ynny", "ynny"),  # reposts of a post that is not there
    ):
        assert (kept(old, repost_of_post_id=of), kept(new, repost_of_post_id=of)) == (
            by_old,
            by_new,
        )


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=8)


@given(ROWS, st.data())
def test_dedup_does_not_depend_on_the_order_of_sources(rows, data):
    """Whatever order posts come in, ranked by score the same ones stay."""
    score = np.array(data.draw(st.permutations(range(len(rows)))), float)
    table = {
        "post_id": np.arange(1, len(rows) + 1),
        "repost_of_post_id": np.array([one for one, _ in rows]),
        "conversation_id": np.array([one for _, one in rows]),
        "score": score,
    }
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    for component in (RepostDedup(), ConversationDedup()):
        left = []
        for rows_in_order in (np.arange(len(score)), order):
            page = Candidates(table).take(rows_in_order)
            page = page.take(np.argsort(-page["score"], kind="stable"))
            left.append(page.post_id[component.keep(QUERY, page)].tolist())
        assert left[0] == left[1]


def test_authors_are_kept_apart_and_the_page_is_full():
    """With few authors and a gap no two posts of one stand close, and the next best fill up."""
    config = FeedConfig(post_filters={"author_cap": {"max_posts": 20, "min_gap": 2}})
    world = World(num_authors=6)
    result = serve(Pipeline.build(config), world.query(2, limit=12), world)
    authors = result.page["author_id"]
    assert len(authors) == 12
    for gap in (1, 2):
        assert (authors[gap:] != authors[:-gap]).all()


def test_a_thread_and_its_reposts_take_one_place():
    """Of a post, its replies and its reposts a page shows the best; others move up."""
    config = FeedConfig(
        filters={"out_of_network_reply_repost": None, "previously_seen": None},
        scorers={"out_of_network": None},
    )
    plain = serve(Pipeline.build(config), World().query(), World())
    first, second, third = plain.page.post_id[:3].tolist()
    world = World()
    world.facts["conversation_id"] = np.where(world.post_id == second, first, world.post_id)
    world.facts["repost_of_post_id"] = np.where(world.post_id == third, first, 0)
    result = serve(Pipeline.build(config), world.query(), world)
    assert result.dropped["post_filters.repost_dedup"].tolist() == [third]
    assert result.dropped["post_filters.conversation_dedup"].tolist() == [second]
    others = [i for i in plain.ranked.post_id.tolist() if i not in (second, third)]
    assert result.page.post_id.tolist() == others[:10]

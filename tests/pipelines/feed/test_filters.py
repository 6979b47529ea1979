"""The exact rule of each filter, page rule and mark, at its edges."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.feed.bloom import BloomFilter
from pipelines.feed.discover import discover
from pipelines.feed.filters.age import Age
from pipelines.feed.filters.in_network_only import InNetworkOnly
from pipelines.feed.filters.ineligible_subscription import IneligibleSubscription
from pipelines.feed.filters.inventory_holdout import InventoryHoldout
from pipelines.feed.filters.muted_author import MutedAuthor
from pipelines.feed.filters.muted_keyword import MutedKeyword
from pipelines.feed.filters.new_user_min_engagement import NewUserMinEngagement
from pipelines.feed.filters.out_of_network_reply_repost import OutOfNetworkReplyRepost
from pipelines.feed.filters.previously_seen import PreviouslySeen
from pipelines.feed.filters.previously_served import PreviouslyServed
from pipelines.feed.filters.self_post import SelfPost
from pipelines.feed.filters.topics import Topics
from pipelines.feed.filters.unknown_post import UnknownPost
from pipelines.feed.filters.video import Video
from pipelines.feed.hydrators.in_network import InNetwork
from pipelines.feed.hydrators.muted_words import MutedWords
from pipelines.feed.hydrators.subscriptions import Subscriptions
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.query_hydrators.seen import Seen
from pipelines.feed.services import Graph, Served, Viewer
from pipelines.feed.stages import FeedQuery, with_context
from pipelines.feed.table import Candidates
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import STRANGER, World, broken

IDS = np.array([1, 2, 3, 4])
NOW_S = 10_000_000.0
SERVED = Served(
    post_id=np.array([9, 1, 2, 4]),
    author_id=IDS,
    topic_ids=IDS[:, None],
    shown_at_ms=np.array([0, NOW_S - 601, NOW_S - 600, NOW_S], np.int64) * 1000,
)
QUERY = with_context(
    FeedQuery(user_id=3, limit=10, now_ms=10_000_000_000, request_id="r"),
    {
        "query.seen": np.array([2, 4]),
        "query.graph": Graph(IDS[:0], blocked=np.array([1]), muted=np.array([4])),
        "query.served": SERVED,
        "query.viewer": Viewer(num_followers=5, created_at_s=NOW_S - 1799),
    },
)
CREATED = np.array([NOW_S, NOW_S - 3600, NOW_S - 3601, np.nan])
TOPICS = np.array([[7, 8], [8, 0], [9, 0], [0, 0]])
PLAIN: dict[str, Any] = {name: np.zeros(4, np.int64) for name in ("reply_to_post_id",)}
PLAIN |= dict.fromkeys(("repost_of_post_id", "repost_author_id"), PLAIN["reply_to_post_id"])
OLD, UNDATED = Viewer(5, NOW_S - 1800), Viewer(5, np.nan)


def posts(**columns: Any) -> Candidates:
    """Posts 1 to 4: no replies, no reposts, and these columns."""
    arrays = {name: np.array(values) for name, values in columns.items()}
    return Candidates({"post_id": IDS, **PLAIN, **arrays})


def kept(component: Any, query: FeedQuery = QUERY, **columns: Any) -> str:
    """Y for each post that stays, n for each that goes."""
    return "".join("ny"[keep] for keep in component.keep(query, posts(**columns)).tolist())


@pytest.mark.parametrize(
    ("component", "columns", "expected"),
    [
        (Age(max_age_hours=1), {"created_at_s": CREATED}, "yyny"),
        (Age(max_age_hours=1, drop_unknown=True), {"created_at_s": CREATED}, "yynn"),
        (Age(max_age_hours=1), {"created_at_s": [NOW_S + 60, 0, NOW_S, 0]}, "ynyn"),
        (SelfPost(), {"author_id": [3, 2, 3, 0]}, "nyny"),
        (SelfPost(), {"author_id": [2, 2, 2, 3], "repost_author_id": [3, 2, 0, 2]}, "nyyn"),
        (
            SelfPost(reposts=False),
            {"author_id": [2, 2, 2, 3], "repost_author_id": [3, 2, 0, 2]},
            "yyyn",
        ),
        (MutedAuthor(), {"author_id": [1, 2, 0, 4]}, "nyyn"),
        (MutedAuthor(), {"author_id": [2, 2, 2, 1], "repost_author_id": [1, 4, 2, 2]}, "nnyn"),
        (
            MutedAuthor(reposts=False),
            {"author_id": [2, 2, 2, 1], "repost_author_id": [1, 4, 2, 2]},
            "yyyn",
        ),
        (PreviouslySeen(), {}, "ynyn"),
        (PreviouslySeen(), {"repost_of_post_id": [2, 0, 9, 0]}, "nnyn"),
        (PreviouslySeen(), {"reply_to_post_id": [0, 0, 4, 9]}, "ynnn"),
        (
            PreviouslySeen(related=False),
            {"repost_of_post_id": [2, 0, 9, 0], "reply_to_post_id": [4, 4, 4, 4]},
            "ynyn",
        ),
        (PreviouslyServed(), {}, "ynyn"),
        (PreviouslyServed(window_s=601), {}, "nnyn"),
        (PreviouslyServed(max_posts=1), {}, "yyyn"),
        (PreviouslyServed(), {"repost_of_post_id": [2, 0, 0, 0]}, "nnyn"),
        (PreviouslyServed(), {"reply_to_post_id": [0, 0, 2, 0]}, "ynnn"),
        (MutedKeyword(), {"mentions_muted": [False, True, False, True]}, "ynyn"),
    ],
)
def test_rule(component, columns, expected):
    """Each rule keeps exactly the posts marked y."""
    assert kept(component, **columns) == expected


KNOWN = {
    "known": [True, True, True, False],
    "author_id": [5, 0, 5, 5],
    "has_text": [True, True, False, True],
}


def test_a_picture_without_text_is_a_known_post():
    """Only what the store does not know is dropped; the first published rule wants text too."""
    assert kept(UnknownPost(), **KNOWN) == "yyyn"
    assert kept(UnknownPost(require_text=True), **KNOWN) == "ynnn"


# in network, replies to (0 = nothing), whose author is, reposts -> verdicts of the settings:
# default, replies=False, reposts=False, orphans=False
STRANGERS = [
    ((True, 0, 0, 0), "yyyy"),
    ((False, 0, 0, 0), "yyyy"),
    ((True, 8, 2, 0), "yyyy"),
    ((False, 8, 2, 0), "nynn"),
    ((True, 8, 0, 0), "nnny"),
    ((False, 8, 0, 0), "nnnn"),
    ((True, 0, 0, 8), "yyyy"),
    ((False, 0, 0, 8), "nnyn"),
]


@pytest.mark.parametrize(("post", "verdicts"), STRANGERS)
def test_replies_and_reposts_of_strangers(post, verdicts):
    """Strangers' replies and reposts go, and so do replies to nobody knows what."""
    names = ("in_network", "reply_to_post_id", "reply_to_author_id", "repost_of_post_id")
    columns = {name: [value] * 4 for name, value in zip(names, post, strict=True)}
    off = [{}, {"replies": False}, {"reposts": False}, {"orphans": False}]
    made = [OutOfNetworkReplyRepost(**settings) for settings in off]
    assert "".join(kept(component, **columns)[0] for component in made) == verdicts


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, "yyyy"),
        ({"topic_ids": (8,)}, "yynn"),
        ({"topic_ids": (7, 9)}, "ynyn"),
        ({"excluded_topic_ids": (8,)}, "nnyy"),
        ({"topic_ids": (7, 8, 9), "excluded_topic_ids": (7,)}, "nyyn"),
        ({"topic_ids": (5,)}, "nnnn"),
    ],
)
def test_topics_of_the_request(wishes, expected):
    """Wanted topics keep, excluded ones drop, and excluded ones win."""
    assert kept(Topics(), replace(QUERY, **wishes), topic_ids=TOPICS) == expected


def test_a_request_may_exclude_videos_and_strangers():
    """Only where the request says so; a post of unknown length, or of none, is no video."""
    duration_s, in_network = [10.0, 0.0, np.nan, 0.1], [True, False, True, False]
    assert kept(Video(), duration_s=duration_s) == "yyyy"
    assert kept(Video(), replace(QUERY, exclude_video=True), duration_s=duration_s) == "nyyn"
    assert kept(InNetworkOnly(), in_network=in_network) == "yyyy"
    only = replace(QUERY, in_network_only=True)
    assert kept(InNetworkOnly(), only, in_network=in_network) == "ynyn"


@pytest.mark.parametrize(
    ("min_likes", "viewer", "expected"),
    [
        (0, QUERY["viewer"], "yyyy"),
        (2, QUERY["viewer"], "nyyy"),
        (3, QUERY["viewer"], "nnyy"),
        (3, OLD, "yyyy"),
        (3, UNDATED, "yyyy"),
    ],
)
def test_new_accounts_get_posts_that_some_like(min_likes, viewer, expected):
    """For half an hour strangers' posts need likes, unless nobody counted them."""
    query = with_context(QUERY, {"query.viewer": viewer})
    columns = {"in_network": [False, False, True, False], "num_likes": [1, 2, 0, -1]}
    assert kept(NewUserMinEngagement(min_likes=min_likes), query, **columns) == expected


MARKS = ("for_subscribers", "repost_for_subscribers")
# author, reposted author, their marks -> verdicts: default, reposts=False. The viewer is 3 and
# subscribes to 7.
PAID = [
    ((2, 0, False, False), "yy"),
    ((2, 0, True, False), "nn"),
    ((7, 0, True, False), "yy"),
    ((3, 0, True, False), "yy"),
    ((0, 0, True, False), "nn"),
    ((2, 5, False, True), "ny"),
    ((2, 7, False, True), "yy"),
    ((2, 3, False, True), "yy"),
    ((7, 5, True, True), "ny"),
    ((5, 7, True, True), "nn"),
]


@pytest.mark.parametrize(("post", "verdicts"), PAID)
def test_posts_for_subscribers(post, verdicts):
    """Who subscribes sees them, and so does who wrote them; by the first rule reposts are free."""
    names = ("author_id", "repost_author_id", *MARKS)
    columns = {name: [value] * 4 for name, value in zip(names, post, strict=True)}
    graph = replace(QUERY["graph"], subscribed=np.array([7]))
    query = with_context(QUERY, {"query.graph": graph})
    made = (IneligibleSubscription(), IneligibleSubscription(reposts=False))
    assert "".join(kept(component, query, **columns)[0] for component in made) == verdicts


def test_labels_say_what_is_for_subscribers():
    """A post is if it, or its author, is labelled so; a repost if what it repeats is."""
    world = World()
    world.labelled = {"post": {1: ("for_subscribers",), 2: ("spam",)}, "author": {}}
    world.labelled["author"] = {8: ("adult", "for_subscribers")}
    columns = {"repost_of_post_id": [0, 0, 0, 1], "repost_author_id": [8, 0, 0, 9]}
    table = posts(author_id=[5, 5, 8, 5], **columns)
    marks = asyncio.run(Subscriptions().hydrate(QUERY, table, world))
    assert marks["for_subscribers"].tolist() == [True, False, True, False]
    assert marks["repost_for_subscribers"].tolist() == [False, False, False, True]


def held_out(percent: dict[str, float], user_id: int, **columns: Any) -> np.ndarray:
    """Which of posts 1 to 20,000 a viewer is not shown. bool [20000]."""
    post_id = np.arange(1, 20_001)
    zero = {name: np.zeros_like(post_id) for name in ("reply_to_post_id", "repost_of_post_id")}
    table = Candidates({"post_id": post_id, **zero, **columns})
    return ~InventoryHoldout(**percent).keep(replace(QUERY, user_id=user_id), table)


def test_the_holdout_is_the_share_asked_for():
    """Off by default; 10 percent are 10 percent, the same each time, others for each viewer."""
    assert not held_out({}, 1).any()
    mine, theirs = (held_out({"original_percent": 10}, user_id) for user_id in (1, 2))
    for out in (mine, theirs):
        assert abs(out.mean() - 0.1) < 0.01
    assert (mine == held_out({"original_percent": 10}, 1)).all()
    assert abs((mine & theirs).mean() - 0.01) < 0.003
    assert (mine <= held_out({"original_percent": 20}, 1)).all()
    assert held_out({"original_percent": 100}, 1).all()
    other = held_out({"original_percent": 10, "salt": 1}, 1)
    assert abs((mine & other).mean() - 0.01) < 0.003


def test_the_holdout_is_by_kind_of_post():
    """Replies and reposts have shares of their own; a repost of a reply is a repost."""
    reply, repost = np.arange(20_000) % 2, np.arange(20_000) % 4 // 2
    columns = {"reply_to_post_id": reply, "repost_of_post_id": repost}
    out = held_out({"reply_percent": 100, "repost_percent": 50}, 1, **columns)
    assert not out[(reply == 0) & (repost == 0)].any()
    assert out[(reply > 0) & (repost == 0)].all()
    assert abs(out[repost > 0].mean() - 0.5) < 0.02


def test_posts_that_the_client_saw_are_seen():
    """What the client says it showed counts like what the server knows."""
    query = replace(WORLD.query(1), seen_ids=(5, 2))
    known = asyncio.run(Seen().hydrate(WORLD.query(1), WORLD))["query.seen"]
    seen = asyncio.run(Seen().hydrate(query, WORLD))["query.seen"]
    assert seen.tolist() == sorted({2, 5, *known.tolist()})


def test_what_a_bloom_filter_holds_is_seen():
    """Posts in a client's filter go, and posts that repeat or answer them; `related` counts."""
    filters = (BloomFilter.of([3], 1e-6), BloomFilter.of([9], 1e-6, seed=1))
    query = replace(QUERY, bloom_filters=filters)
    assert kept(PreviouslySeen(), query) == "ynnn"
    assert kept(PreviouslySeen(), query, reply_to_post_id=[9, 0, 0, 0]) == "nnnn"
    assert kept(PreviouslySeen(related=False), query, reply_to_post_id=[9, 0, 0, 0]) == "ynnn"


def test_what_the_client_has_loaded_is_not_served_below_it():
    """Of a viewer who scrolls on, and of no other; posts that repeat or answer it go, too."""
    query = replace(QUERY, served_ids=(3, 9))
    assert kept(PreviouslyServed(), query) == "ynyn"
    query = replace(query, is_bottom_request=True)
    assert kept(PreviouslyServed(), query) == "ynnn"
    assert kept(PreviouslyServed(), query, repost_of_post_id=[9, 0, 0, 0]) == "nnnn"


WORLD = World()


def test_own_and_followed_posts_are_in_network():
    """In network: by the viewer or by someone followed; an unknown author is not."""
    graph = Graph(np.array([2]), IDS[:0], IDS[:0])
    query = with_context(QUERY, {"query.graph": graph})
    table = posts(author_id=[2, 3, 1, 0])
    marks = asyncio.run(InNetwork().hydrate(query, table, World()))
    assert marks["in_network"].tolist() == [True, True, False, False]


def test_muted_words_are_looked_for_in_quoted_texts_too():
    """A post that repeats or quotes one with a muted word is marked; no words, no question."""
    pointers = {"repost_of_post_id": [0, 7, 0, 0], "quote_of_post_id": [0, 0, 7, 0]}
    table = posts(**pointers)
    query = with_context(
        QUERY, {"query.graph": replace(QUERY["graph"], muted_keywords=("POST 7",))}
    )
    marks = asyncio.run(MutedWords().hydrate(query, table, WORLD))
    assert marks["mentions_muted"].tolist() == [False, True, True, False]
    marks = asyncio.run(MutedWords().hydrate(QUERY, table, None))
    assert not marks["mentions_muted"].any()


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
    """In a world without threads, texts and wishes, only age, standing and what was seen drop."""
    result = serve(Pipeline.build(), WORLD.query(STRANGER), WORLD)
    dropping = {key for key, ids in result.dropped.items() if len(ids)}
    assert dropping <= {"filters.age", "filters.previously_seen", "filters.muted_author"}


@pytest.mark.parametrize(
    "name", ["muted_author", "muted_keyword", "unknown_post", "topics", "ineligible_subscription"]
)
def test_filters_that_protect_fail_closed(name):
    """Without what they judge by, rules that viewers rely on let nothing through."""
    assert discover()["filters"][name].fails == "closed"


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

"""The exact rule of each filter, at its edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.feed.bloom import BloomFilter
from pipelines.feed.filters.age import Age
from pipelines.feed.filters.in_network_only import InNetworkOnly
from pipelines.feed.filters.ineligible_subscription import IneligibleSubscription
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
from pipelines.feed.services import Viewer
from pipelines.feed.stages import with_context
from tests.pipelines.feed.four_posts import NOW_S, QUERY, kept

CREATED = np.array([NOW_S, NOW_S - 3600, NOW_S - 3601, np.nan])
TOPICS = np.array([[7, 8], [8, 0], [9, 0], [0, 0]])
OLD, UNDATED = Viewer(5, NOW_S - 1800), Viewer(5, np.nan)


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

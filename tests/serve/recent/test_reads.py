"""Recent posts: what a viewer sees of them, and that nothing is lost or comes back."""

from __future__ import annotations

import itertools

import pytest

from serve.stores.recent.store import RecentPosts, RecentSettings
from tests.serve.recent.model import Post
from tests.serve.recent.test_model import new_posts

NOW = 1_800_000_000_000
RETENTION = 1000 * RecentSettings().retention_s
VIEWER, FRIEND, STRANGER = 1, 2, 3
TRIMS = pytest.mark.parametrize("trims", [False, True])


def store_of(*posts: Post, **settings: int) -> RecentPosts:
    """A store that these posts came to, one by one."""
    store = RecentPosts(RecentSettings(**settings))
    for post in posts:
        store.insert(new_posts([post]), NOW)
    return store


def found(store: RecentPosts, *authors: int, now_ms: int = NOW, **how: object) -> list[int]:
    """What the viewer finds of these authors."""
    request = {"viewer_id": VIEWER, "excluded": [], "max_results": 100, **how}
    return store.read(author_ids=authors, now_ms=now_ms, **request).post_id.tolist()


ROOT = Post(10, STRANGER, NOW - 9000)
UNDER_ROOT = Post(11, FRIEND, NOW - 8000, parent_id=10)
DEEPER = Post(12, FRIEND, NOW - 7000, parent_id=11)
REPOST = Post(13, FRIEND, NOW - 6000, parent_id=10, is_repost=True)
OTHERS = Post(14, STRANGER, NOW - 5000, parent_id=10)


@pytest.mark.parametrize(
    ("parent_id", "facts", "shown"),
    [
        (10, {}, True),  # to an original of whomever
        (99, {}, False),  # to a post that is not there
        (13, {}, False),  # to a repost
        (11, {"conversation_id": 10}, True),  # to a followed author's reply to the root
        (11, {"conversation_id": 10, "parent_author_id": FRIEND}, True),
        (11, {"conversation_id": 10, "parent_author_id": STRANGER}, False),  # what is told counts
        (11, {}, True),  # the root is not told, but is there
        (11, {"conversation_id": 99}, False),  # that reply is not under the root
        (12, {"conversation_id": 10}, False),
        (12, {}, False),  # what it is under is no original
        (14, {"conversation_id": 10}, False),  # to a stranger's reply
        (14, {}, False),
    ],
)
@TRIMS
def test_which_replies_are_shown(parent_id, facts, shown, trims):
    """A reply is shown if it answers an original, or a followed author's reply to the root."""
    reply = Post(20, FRIEND, NOW, parent_id=parent_id, **facts)
    for posts in ((ROOT, UNDER_ROOT, DEEPER, REPOST, OTHERS, reply), (reply, ROOT, UNDER_ROOT)):
        store = store_of(*posts)
        if trims:
            store.trim(NOW)
        there = parent_id in [post.post_id for post in posts]
        assert (20 in found(store, FRIEND)) == (shown and there)


def test_a_reply_goes_with_what_it_answers():
    """A reply is shown no longer once its parent, or an untold root, is deleted or too old."""
    reply = Post(20, FRIEND, NOW, parent_id=11)
    for gone in (10, 11):
        store = store_of(ROOT, UNDER_ROOT, reply)
        store.delete([gone], NOW, NOW)
        assert 20 not in found(store, FRIEND)
        store.restore([gone], NOW + 1, NOW + 1)
        assert 20 in found(store, FRIEND)
    assert found(store, FRIEND, now_ms=NOW - 9000 + RETENTION) == [20, 11]
    assert found(store, FRIEND, now_ms=NOW - 8999 + RETENTION) == []  # 11 lost its own parent


@pytest.mark.parametrize("told", [0, VIEWER])
def test_reposts_of_the_viewers_own_posts_are_not_shown(told):
    """Nobody is shown their own post as somebody's repost, whether its author is told or stored."""
    own = Post(10, VIEWER, NOW - 2000)
    repost = Post(11, FRIEND, NOW, parent_id=10, parent_author_id=told, is_repost=True)
    assert found(store_of(own, repost), FRIEND) == []
    assert found(store_of(own, repost), FRIEND, viewer_id=STRANGER) == [11]


@TRIMS
@pytest.mark.parametrize("comes", [True, False])
def test_a_repost_goes_with_its_source_for_good(comes, trims):
    """A deleted post's repost stays away, also when the post never came or would be too old."""
    source = Post(10, STRANGER, NOW - RETENTION + 1000)
    repost = Post(11, FRIEND, NOW - 10, parent_id=10, is_repost=True)
    store = store_of(repost, *[source] * comes)
    assert found(store, FRIEND) == [11]
    store.delete([10], NOW, NOW)
    for now_ms in (NOW, NOW + 5000, NOW - 10 + RETENTION):
        if trims:
            store.trim(now_ms)
        assert found(store, FRIEND, now_ms=now_ms) == []


@TRIMS
def test_a_deletion_may_come_before_its_post(trims):
    """A post that was deleted before it came is not shown, until something later restores it."""
    store = store_of()
    store.delete([10], NOW - 100, NOW)
    store.insert(new_posts([Post(10, FRIEND, NOW - 200)]), NOW)
    if trims:
        store.trim(NOW)
    assert found(store, FRIEND) == []
    store.restore([10], NOW - 101, NOW)  # what happened before does not matter
    store.restore([10], NOW - 100, NOW)  # at the same time, the deletion decides
    assert found(store, FRIEND) == []
    store.restore([10], NOW - 99, NOW)
    assert found(store, FRIEND) == [10]
    store.delete([10], NOW - 100, NOW)
    assert found(store, FRIEND) == [10]


@TRIMS
def test_a_deletion_is_forgotten_after_the_retention(trims):
    """A mark lasts for the retention from when it came, to the millisecond, trimmed or not."""
    for late_ms, shown in ((0, []), (1, [10])):
        store = store_of()
        store.delete([10], NOW - 5000, NOW)
        again_ms = NOW + RETENTION + late_ms
        if trims:
            store.trim(again_ms)
        store.insert(new_posts([Post(10, FRIEND, again_ms)]), again_ms)
        assert found(store, FRIEND, now_ms=again_ms) == shown
        store.trim(again_ms + 1)
        assert found(store, FRIEND, now_ms=again_ms + RETENTION) == shown  # nor does it come back


@TRIMS
def test_posts_last_for_the_retention(trims):
    """A post is there up to the retention's last millisecond, then may come anew."""
    store = store_of(Post(10, FRIEND, NOW), Post(11, FRIEND, NOW - 1), Post(9, FRIEND, NOW))
    if trims:
        store.trim(NOW + RETENTION)
    assert found(store, FRIEND, now_ms=NOW + RETENTION) == [10, 9]
    assert found(store, FRIEND, now_ms=NOW + RETENTION + 1) == []
    assert found(store, FRIEND, now_ms=NOW) == []  # time does not go back
    later_ms = NOW + RETENTION + 2
    again = [Post(10, STRANGER, later_ms), Post(20, FRIEND, later_ms, parent_id=10)]
    assert store.insert(new_posts(again), later_ms) == 2
    assert found(store, FRIEND, STRANGER) == [20, 10]


def test_what_is_refused_is_counted():
    """Posts too far ahead or too old are refused, known ones left alone, near ones made now."""
    store = store_of(max_ahead_s=5)
    ahead = [NOW + 5001, NOW + 5000, NOW - RETENTION, NOW - RETENTION - 1]
    posts = [Post(10 + at, FRIEND, ms) for at, ms in enumerate(ahead)]
    assert store.insert(new_posts([*posts, posts[1]]), NOW) == 2
    hits = store.read(VIEWER, [FRIEND], [], NOW, 10)
    assert hits.post_id.tolist() == [11, 12]
    assert hits.value.tolist() == [NOW / 1000, (NOW - RETENTION) / 1000]
    stats = store.stats()
    names = ("inserted", "duplicate", "from_future", "too_old")
    assert [stats[name] for name in names] == [2, 1, 1, 1]


def test_deleted_posts_do_not_count_as_looked_at():
    """So many newest posts of a list are looked at, without deleted ones, with excluded ones."""
    posts = [Post(10 + at, FRIEND, NOW + at - 100) for at in range(8)]
    for trims in (False, True):
        store = store_of(*posts, max_scanned_per_list=3)
        if trims:
            store.trim(NOW)
        store.delete([17, 15], NOW, NOW)
        assert found(store, FRIEND, excluded=[16]) == [14, 13]


def test_caps_and_cuts():
    """Each author has at most so many posts of a kind; lists asked with are cut, which counts."""
    kinds = [{}, {"parent_id": 10}, {"parent_id": 99, "is_repost": True}]
    posts = [Post(10, STRANGER, NOW - 500, has_video=True)]
    posts += [Post(20 + at, FRIEND, NOW - at, has_video=True, **kinds[at % 3]) for at in range(15)]
    caps = {"max_originals_per_author": 2, "max_secondary_per_author": 3}
    store = store_of(*posts, **caps, max_videos_per_author=4, max_authors=2, max_excluded=1)
    assert found(store, FRIEND) == [20, 21, 22, 23, 24]
    assert found(store, FRIEND, videos=True) == [20, 22, 23, 25]
    assert found(store, FRIEND, 9, STRANGER, excluded=[20, 21]) == [21, 22, 23, 24, 26]
    assert found(store, FRIEND, FRIEND, max_results=1) == [20]
    assert found(store) == []  # who follows nobody is shown nothing
    stats = store.stats()
    assert stats["following_cut"] == stats["excluded_cut"] == 1
    assert stats["requests"] == 5
    assert stats["answered"] == 4
    assert stats["posts_returned_ratio"] == 15 / 401
    assert stats["sum_reply_ratio"] == pytest.approx(0.4 + 0.0 + 0.4)
    assert stats["sum_time_range_s"] == pytest.approx(0.004 + 0.005 + 0.005)
    assert stats["sum_posts_per_author"] == stats["posts_returned"] == 15


def test_order_of_arrival_does_not_matter():
    """Posts, their parents and their marks may come in any order: the same is shown."""
    reply = Post(20, FRIEND, NOW, parent_id=11)
    steps = [
        lambda store: store.insert(new_posts([ROOT]), NOW),
        lambda store: store.insert(new_posts([UNDER_ROOT, Post(21, FRIEND, NOW - 1)]), NOW),
        lambda store: store.insert(new_posts([reply]), NOW),
        lambda store: store.delete([21, 12], NOW, NOW),
        lambda store: store.restore([12], NOW + 5, NOW),
        lambda store: store.trim(NOW),
    ]
    for order in itertools.islice(itertools.permutations(steps), 0, None, 13):
        store = store_of()
        for step in order:
            step(store)
        assert found(store, FRIEND) == [20, 11]

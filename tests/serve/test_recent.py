"""Recent posts: what a viewer sees of them, and that nothing is lost or comes back."""

from __future__ import annotations

import itertools
import sys
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import ConfigError, check
from pipelines.schema import POSTS
from serve.stores import recent
from serve.stores.recent import BusyError, RecentPosts, RecentSettings
from serve.stores.recent_index import Places
from serve.stores.recent_rows import NewPosts, posts_of
from tests.serve.recent_model import Post
from tests.serve.test_recent_model import new_posts

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


def test_too_many_reads_are_refused_at_once(monkeypatch):
    """A read that is one too many does not wait: it is refused and counted."""
    store, begun, go_on = store_of(Post(10, FRIEND, NOW), max_concurrent=2), [], threading.Event()
    newest = recent.newest

    def slow(*args: object) -> object:
        begun.append(args)
        go_on.wait(10)
        return newest(*args)

    monkeypatch.setattr(recent, "newest", slow)
    threads = [threading.Thread(target=found, args=(store, FRIEND)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(begun) < 2:
        pass
    with pytest.raises(BusyError, match="2 reads are going on"):
        found(store, FRIEND)
    go_on.set()
    for thread in threads:
        thread.join()
    assert found(store, FRIEND) == [10]
    assert store.stats()["rejected"] == 1


def test_trims_beside_reads_and_writes_lose_nothing():
    """What has been written is read, and what has been deleted is not, whatever else goes on."""
    limits = {"max_originals_per_author": 10**6, "max_scanned_per_list": 10**6}
    store, done, problems = store_of(**limits), [], []
    batch = 40
    written = deleting = deleted = 0  # posts from 1 up to these

    def forever(step: object) -> threading.Thread:
        def run() -> None:
            try:
                while not done:
                    step()
            except Exception as error:
                problems.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def read() -> None:
        gone, last = deleted, written
        ids = set(found(store, *range(1, 8), max_results=10**6))
        assert ids.issuperset(range(deleting + 1, last + 1))
        assert ids.isdisjoint(range(1, gone + 1))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [forever(read), forever(lambda: store.trim(NOW))]
    try:
        for at in range(0, 6000, batch):
            ids = range(at + 1, at + batch + 1)
            store.insert(new_posts([Post(i, i % 7 + 1, NOW) for i in ids]), NOW)
            written = ids[-1]
            if at >= 2000:
                deleting = written - 2000
                store.delete([i - 2000 for i in ids], NOW, NOW)
                deleted = deleting
    finally:
        done.append(True)
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert problems == []
    store.trim(NOW)
    assert sorted(found(store, *range(1, 8), max_results=10**6)) == [*range(4001, 6001)]
    assert store.stats()["rows"] == 6000


def test_a_snapshot_is_the_store(tmp_path):
    """What is saved is loaded, marks and all; a save that fails leaves the file as it was."""
    store = store_of(ROOT, UNDER_ROOT, REPOST, DEEPER)
    store.delete([10, 99], NOW, NOW)
    path = tmp_path / "recent.npz"
    store.save(path)
    same = RecentPosts.load(path)
    same.insert(new_posts([Post(99, FRIEND, NOW)]), NOW)
    assert found(same, FRIEND) == []
    same.restore([10, 99], NOW + 1, NOW + 1)
    assert found(same, FRIEND, STRANGER) == [99, 13, 12, 11, 10]
    assert RecentPosts.load(path, RecentSettings(retention_s=7))._held.num == 5
    (tmp_path / "other.npz").write_text("something")
    with pytest.raises(ValueError, match=r"other\.npz: not a snapshot of recent posts"):
        RecentPosts.load(tmp_path / "other.npz")
    same._held = None
    with pytest.raises(AttributeError):
        same.save(path)
    assert found(RecentPosts.load(path), STRANGER) == []
    assert len(list(tmp_path.iterdir())) == 2


GOOD = new_posts([ROOT, UNDER_ROOT]).columns()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"post_id": [10, 0]}, r"posts\.post_id\[1\]: 0, expected at least 1"),
        ({"author_id": [-3, 1]}, r"posts\.author_id\[0\]: -3, expected at least 1"),
        ({"conversation_id": [0, -1]}, r"posts\.conversation_id\[1\]: -1, expected at least 0"),
        ({"has_video": [True]}, r"posts\.has_video: shape \(1,\).* each of 2 post ids"),
        ({"is_repost": [True, True]}, r"posts\.parent_id\[0\]: 0, but post 10 is a repost"),
    ],
)
def test_wrong_posts_are_refused(change, words):
    """A post that cannot be is an error that says where and what."""
    with pytest.raises(ValueError, match=words):
        NewPosts(**GOOD | change)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda store: found(store, 2, 0), r"author_ids\[1\]: 0, expected at least 1"),
        (lambda store: found(store, 2, excluded=[-1]), r"excluded\[0\]: -1"),
        (lambda store: found(store, 2, excluded=7), r"excluded: shape \(\)"),
        (lambda store: found(store, 2, viewer_id=0), "viewer_id: 0, expected at least 1"),
        (lambda store: found(store, 2, max_results=0), "max_results: 0, expected at least 1"),
        (lambda store: store.delete([1, 0], NOW, NOW), r"post_ids\[1\]: 0"),
        (lambda store: store.restore([1, 2], [NOW] * 3, NOW), r"at_ms: shape \(3,\).* 2 posts"),
    ],
)
def test_wrong_questions_are_refused(call, words):
    """A wrong argument is an error that names it, and the store goes on."""
    store = store_of(ROOT)
    with pytest.raises(ValueError, match=words):
        call(store)
    assert found(store, STRANGER) == [10]
    with pytest.raises(ConfigError, match="did you mean 'retention_s'"):
        check({"retention_m": 5}, RecentSettings, place="serve.yaml")


def test_rows_of_the_posts_table_become_posts():
    """Replies, reposts and videos of schema.POSTS are told apart; rows of no author or time go."""
    row = {"author_id": FRIEND, "created_at_ms": NOW}
    rows = [
        {"post_id": 1, **row, "duration_s": 1.9},
        {"post_id": 2, **row, "duration_s": 2.0, "reply_to_post_id": 7},
        {"post_id": 3, **row, "reply_to_post_id": 7, "repost_of_post_id": 8},
        {"post_id": 4, "author_id": FRIEND},
        {"post_id": 5, "created_at_ms": NOW},
    ]
    posts, num_left_out = posts_of(pa.Table.from_pylist(rows, schema=POSTS.arrow), min_video_s=2.0)
    assert num_left_out == 2
    assert posts.post_id.tolist() == [1, 2, 3]
    assert posts.parent_id.tolist() == [0, 7, 8]
    assert posts.is_repost.tolist() == [False, False, True]
    assert posts.has_video.tolist() == [False, True, False]
    assert posts_of(POSTS.arrow.empty_table(), 2.0)[1] == 0


@settings(max_examples=50)
@given(st.lists(st.integers(1, 2**62)), st.lists(st.integers(1, 2**62)), st.integers(0, 40))
def test_places_are_where_ids_stand(ids, others, num_near):
    """An id's place is where it stands, and there is none for others, crowded buckets or not."""
    near = [i << 48 for i in range(1, num_near)]  # many of them share few buckets
    ids = [*ids, *near[::2]]
    asked = [*ids, *others, *near]
    places = Places(np.array(ids, np.int64)).of(np.array(asked, np.int64)).tolist()
    for one, place in zip(asked, places, strict=True):
        assert ids[place] == one if one in ids else place == -1
    assert len(places) == len(asked)


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

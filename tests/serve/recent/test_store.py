"""The store of recent posts in use: many threads, files, wrong arguments, tables."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import ConfigError, check
from pipelines.schema import POSTS
from serve.stores.post_table import PostTable
from serve.stores.recent import reads
from serve.stores.recent import store as recent
from serve.stores.recent.index import Places
from serve.stores.recent.reads import Request
from serve.stores.recent.rows import NewPosts, posts_of
from serve.stores.recent.store import BusyError, RecentPosts, RecentSettings
from tests.serve.recent.model import Post
from tests.serve.recent.test_model import new_posts
from tests.serve.recent.test_reads import (
    DEEPER,
    FRIEND,
    NOW,
    REPOST,
    RETENTION,
    ROOT,
    STRANGER,
    UNDER_ROOT,
    found,
    store_of,
)


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


def test_memory_is_bounded():
    """Nobody need trim: old posts, and marks of posts that never came, go as others come."""
    store = store_of(retention_s=1, max_late_posts=100)
    for step in range(200):
        now_ms = NOW + 100 * step
        ids = range(50 * step + 1, 50 * step + 51)
        store.insert(new_posts([Post(i, FRIEND, now_ms) for i in ids]), now_ms)
        store.delete([10**6 + i for i in ids], now_ms, now_ms)
        assert store.stats()["rows"] <= 100 * 11 + 200
    assert store.stats()["posts"] == 50 * 11
    assert store.stats()["deleted_posts"] == 50 * 11


@pytest.mark.parametrize("num_asleep", [0, 150])
def test_reads_look_at_few_posts(num_asleep):
    """However many posts are wanted, not many more are looked at, also if most authors sleep."""
    authors, store = np.arange(1, 301), store_of()
    posts = []
    for author_id in authors.tolist():
        since_ms = NOW - (90_000_000 if author_id <= num_asleep else 0)
        posts += [Post(len(posts) + at, author_id, since_ms - 1000 * at) for at in range(1, 41)]
    store.insert(new_posts(posts), NOW)
    store.trim(NOW)
    request = Request(1, authors, authors[:0], NOW, NOW - RETENTION, 200, False)
    lists, _, head_ms = reads._lists(store._held, request)
    created_at_ms = np.array([post.created_at_ms for post in posts])
    for target in (1, 10, 100, 149, 150, 151, 290, 299, 300, 301, 1000, 5000, 5999, 6000):
        since_ms = reads._since(store._held, lists, head_ms, target, request, store.settings)
        assert target <= np.count_nonzero(created_at_ms >= since_ms) <= target + 300


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
    table = pa.Table.from_pylist(rows, schema=POSTS.arrow)
    facts = PostTable(table).facts(np.arange(1, 6))
    posts, num_left_out = posts_of(table, facts, min_video_s=2.0)
    assert num_left_out == 2
    assert posts.post_id.tolist() == [1, 2, 3]
    assert posts.parent_id.tolist() == [0, 7, 8]
    assert posts.is_repost.tolist() == [False, False, True]
    assert posts.has_video.tolist() == [False, True, False]
    assert posts.parent_author_id.tolist() == [0, 0, 0]  # of posts that are not in the table
    assert posts.conversation_id.tolist() == [1, 7, 7]
    none = {name: values[:0] for name, values in facts.items()}
    assert posts_of(POSTS.arrow.empty_table(), none, 2.0)[1] == 0


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

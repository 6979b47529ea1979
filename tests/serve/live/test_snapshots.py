"""A replica that starts from a snapshot knows what one knows that reads the whole journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.schema import POSTS
from serve import api_events
from serve.live.follower import Follower
from serve.live.messages import Message, happened, in_order, message
from serve.live.snapshots import Snapshots, SnapshotSettings, Start
from serve.live.sqlite import SqliteJournal
from serve.live.state import LiveState, StateSettings
from serve.stores.posts import PostStore
from serve.stores.recent import RecentPosts
from tests.serve.live.happenings import deletion, engagement, eventually, post

NOW_MS = 100_000
BUNDLE = pa.Table.from_pylist(
    [
        {"post_id": n, "author_id": n, "created_at_ms": 1_000, "text": "old", "topic_ids": []}
        for n in (1, 2)
    ],
    schema=POSTS.arrow,
)
POST_ID, AT_MS = st.integers(1, 6), st.integers(2_000, 2_009)


def act(user_id: int, post_id: int, action: str, at_ms: int) -> Message:
    """What a viewer did."""
    return message(
        api_events.Engagement(
            kind="engagement", user_id=user_id, post_id=post_id, action=action, at_ms=at_ms
        )
    )


MESSAGES = st.lists(
    st.builds(post, POST_ID, st.integers(1, 3), AT_MS, st.sampled_from(["rain", "snow"]))
    | st.builds(deletion, POST_ID, AT_MS)
    | st.builds(
        act,
        st.integers(1, 3),
        POST_ID,
        st.sampled_from(["favorite", "block_author", "follow_author"]),
        AT_MS,
    ),
    max_size=14,
    unique_by=lambda one: one.name,
)


def state(**bounds: int) -> LiveState:
    """One that knows nothing."""
    return LiveState(RecentPosts(), lambda: NOW_MS, StateSettings(**bounds))


def shown(live: LiveState, as_of_ms: int = 1_000) -> PostStore:
    """The store of the bundle, in use."""
    store = live.over(BUNDLE, as_of_ms)
    live.adopt(store, as_of_ms)
    return store


def apply(live: LiveState, messages: list[Message], size: int = 1_000) -> None:
    """As the follower hands messages on, `size` at a time."""
    for first in range(0, len(messages), size):
        for part in in_order(messages[first : first + size]):
            live.apply(happened(part)[0])


def known(live: LiveState, store: PostStore) -> dict[str, object]:
    """All that the feed can ask."""
    ids = np.arange(1, 8)
    facts = store.facts(ids)
    return {
        **{n: facts[n].tolist() for n in ("known", "author_id")},
        "created_at_s": facts["created_at_s"][facts["known"]].tolist(),
        "words": store.mention(ids, ("rain",))[facts["known"]].tolist(),
        "counts": live.counts.of(ids).tolist(),
        "relations": [sorted(map(str, zip(*live.relations.posts(n), strict=True))) for n in ids],
        "blocked_by": [live.relations.blocked_by(n).tolist() for n in ids],
        "recent": [live.recent.read(9, [n], (), NOW_MS, 9).post_id.tolist() for n in ids],
    }


class Named:
    """A journal that has a name."""

    def __init__(self, name: str = "a") -> None:
        self.name = name

    def identity(self) -> str:
        return self.name


def saved(live: LiveState, folder: Path, position: Mapping[str, int]) -> None:
    """Make a snapshot."""
    snapshots = Snapshots(SnapshotSettings(directory=str(folder)), live, Named())
    snapshots.checkpoint(position, {("posts", "p"): ("a", 3), ("posts", "q"): None})
    snapshots.close()
    assert snapshots.problem is None


def started(folder: Path, name: str = "a", as_of_ms: int = 1_000) -> tuple[LiveState, Start]:
    """A state that begins with what is in the folder."""
    live = state()
    snapshots = Snapshots(SnapshotSettings(directory=str(folder)), live, Named(name))
    return live, snapshots.start(as_of_ms)


@settings(max_examples=15, deadline=None)
@given(MESSAGES, st.integers(0, 14), st.integers(1, 14))
def test_a_snapshot_and_the_rest_are_the_journal(tmp_path_factory, messages, cut, size):
    """Wherever it was made, and however the rest is batched: posts, counts, relations, order."""
    folder = tmp_path_factory.mktemp("snapshots")
    whole, first = state(), state()
    store = shown(whole)
    apply(whole, messages)
    shown(first)
    apply(first, messages[:cut], size)
    saved(first, folder, {"a": cut})
    second, start = started(folder)
    assert (start.after, start.told[:10]) == ({"a": cut}, "a snapshot")
    assert start.seen == {("posts", "p"): ("a", 3), ("posts", "q"): None}
    again = shown(second)
    apply(second, messages[cut:], size)
    assert known(second, again) == known(whole, store)


@pytest.mark.parametrize("what", ["damaged", "foreign", "missing", "another version"])
def test_a_snapshot_that_is_of_no_use_is_passed_over(tmp_path: Path, what: str):
    """Then the whole journal is read, and the reason is told."""
    live = state()
    shown(live)
    apply(live, [post(3), deletion(1)])
    if what != "missing":
        saved(live, tmp_path, {"a": 2})
        (path,) = tmp_path.glob("*.zip")
        body = bytearray(path.read_bytes())
        if what == "damaged":
            body[body.index(b"PAR1") + 40] ^= 1
        elif what == "another version":
            body = bytearray(body[: len(body) // 2])
        path.write_bytes(body)
    found, start = started(tmp_path, "b" if what == "foreign" else "a")
    assert (start.after, start.seen) == (None, {})
    assert start.told.startswith("the whole journal: ")
    assert not len(found.deletions)
    why = {"foreign": "of journal a, and this is b", "missing": "no snapshot"}
    assert why.get(what, "damaged") in start.told


def test_the_one_before_serves_when_the_last_is_damaged(tmp_path: Path):
    """Two are kept."""
    live = state()
    shown(live)
    for n in range(3):
        apply(live, [post(3 + n)])
        snapshots = Snapshots(
            SnapshotSettings(directory=str(tmp_path), every_s=1e-9), live, Named()
        )
        time.sleep(0.002)  # names hold milliseconds
        snapshots.checkpoint({"a": n}, {})
        snapshots.close()
    _, newest = paths = sorted(tmp_path.glob("*.zip"))
    assert len(paths) == 2
    newest.write_bytes(b"PK")
    _, start = started(tmp_path)
    assert start.after == {"a": 1}


def test_a_bundle_that_is_older_has_the_journal_count_again(tmp_path: Path):
    """What was counted before the snapshot's bundle is not in it; what protects is known anyway."""
    live = state()
    shown(live, as_of_ms=5_000)
    apply(live, [deletion(1), act(1, 2, "block_author", 3_000), act(1, 2, "favorite", 6_000)])
    saved(live, tmp_path, {"a": 3})
    again, start = started(tmp_path, as_of_ms=1_000)
    store = shown(again)
    assert start.after is None
    assert "whole journal" in start.told
    assert not store.has(1)
    assert again.relations.blocked_by(2).tolist() == [1]
    assert again.counts.of(np.array([2])).sum() == 0


def follow(journal: SqliteJournal, folder: Path, until: Callable[[LiveState], bool]) -> Start:
    """What a replica does from its start on until it is killed."""
    live = state()
    snapshots = Snapshots(SnapshotSettings(directory=str(folder), every_s=0.01), live, journal)
    start = snapshots.start(1_000)
    shown(live)
    follower = Follower(
        journal,
        [live],
        after=start.after,
        seen=start.seen,
        checkpoint=snapshots.checkpoint,
        dead_letters=str(folder / "letters.jsonl"),
    )
    eventually(lambda: follower.caught_up and until(live))
    follower.close()
    snapshots.close()
    return start


def test_what_protects_outlives_the_journal(journal: SqliteJournal, tmp_path: Path):
    """Deletions and blocks are known after a restart though the journal let go of them."""
    folder = tmp_path / "snapshots"
    told = [deletion(1), act(1, 2, "block_author", 3_000), engagement(1, 2, "e")]
    journal.append(told)
    start = follow(journal, folder, lambda live: bool(list(folder.glob("*.zip"))))
    assert start.told.startswith("the whole journal: no snapshot")
    with journal._file.use("trim") as connection:
        connection.execute("DELETE FROM messages")
    journal.append([post(5)])

    def all_is_known(live: LiveState) -> bool:
        store = live._fed[0][0]
        assert live.counts.of(np.array([2])).sum() == 1
        assert live.relations.blocked_by(2).tolist() == [1]
        return store.has(5) and not store.has(1)

    assert follow(journal, folder, all_is_known).after


def test_what_is_let_go_is_the_oldest_and_counted():
    """Posts, deletions and relations are bounded; blocks outlive follows."""
    live = state(max_posts=40, max_deletions=20, max_relations=20)
    store = shown(live)
    found: dict[int, bool] = {}

    class Finds:
        def add(self, posts: pa.Table) -> None:
            found.update(dict.fromkeys(posts["post_id"].to_pylist(), True))

        def forget(self, post_id: np.ndarray) -> None:
            found.update(dict.fromkeys(post_id.tolist(), False))

    live.tell(store, Finds())
    for n in range(3, 103):
        apply(live, [post(n), act(1, n, "block_author" if n < 13 else "follow_author", n)])
    assert [n for n in range(3, 103) if found[n]] == list(range(63, 103))
    assert live.relations.posts(1)[1].tolist()[:10] == list(range(3, 13))
    apply(live, [deletion(1)])
    apply(live, [deletion(n, 2_000 + n) for n in range(80, 102)])
    assert store.has(1)  # of the bundle; its deletion was the oldest
    assert not store.facts(np.arange(80, 102))["known"].any()
    stats = live.stats()
    assert stats["new_posts"] <= 40
    assert stats["deletions"] <= 20 >= stats["relations"]
    assert min(v for k, v in stats.items() if k.endswith("_let_go")) > 0


def test_a_post_that_is_published_anew_is_back_as_it_is_now():
    """After its deletion a newer one brings it back, an older one does not; the order decides."""
    live = state()
    store = shown(live)
    for n in (1, 3):  # the bundle's, and a new one
        for one, is_known, words in (
            (post(n, 7, 2_000, "rain"), True, n == 3),
            (deletion(n, 3_000), False, None),
            (post(n, 7, 2_999, "rain"), False, None),
            (post(n, 7, 3_001, "snow"), True, False),
            (deletion(n, 3_000), True, False),
            (post(n, 7, 4_000, "rain"), True, False),  # it is there already
            (deletion(n, 3_500), False, None),
            (post(n, 7, 5_000, "rain"), True, True),
        ):
            apply(live, [one])
            assert store.has(n) == is_known
            if words is not None:
                assert store.mention(np.array([n]), ("rain",))[0] == words
        assert n in live.recent.read(9, [1, 7], (), NOW_MS, 9).post_id
    assert known(live, live.over(BUNDLE, 1_000)) == known(live, store)

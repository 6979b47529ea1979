"""What a replica keeps of what happened, over any bundle and in bounds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serve.live.happenings import deletion, post
from tests.serve.live.states import BUNDLE, MESSAGES, NOW_MS, act, apply, known, shown, state


def test_what_is_let_go_is_the_oldest_and_counted():
    """Posts, deletions, relations and counts are bounded; blocks outlive follows."""
    live = state(max_posts=40, max_deletions=20, max_relations=20, max_counted=40)
    store = shown(live)
    found: dict[int, bool] = {}

    class Finds:
        def add(self, posts: pa.Table) -> None:
            found.update(dict.fromkeys(posts["post_id"].to_pylist(), True))

        def forget(self, post_id: np.ndarray) -> None:
            found.update(dict.fromkeys(post_id.tolist(), False))

    live.tell(store, Finds())
    for n in range(3, 103):
        relation = act(1, n, "block_author" if n < 13 else "follow_author", n)
        apply(live, [post(n), relation, act(1, n, "favorite", 2_000 + n)])
    assert [n for n in range(3, 103) if found[n]] == list(range(63, 103))
    assert live.relations.posts(1)[1].tolist()[:10] == list(range(3, 13))
    apply(live, [deletion(1)])
    apply(live, [deletion(n, 2_000 + n) for n in range(80, 102)])
    assert store.has(1)  # of the bundle; its deletion was the oldest
    assert not store.facts(np.arange(80, 102))["known"].any()
    stats = live.stats()
    assert stats["new_posts"] <= 40
    assert stats["deletions"] <= 20 >= stats["relations"]
    assert live.counts.of(np.arange(3, 103)).sum() == stats["counted"] <= 40
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


@settings(max_examples=60)
@given(MESSAGES, st.integers(0, 14), st.integers(1, 14))
def test_another_bundle_changes_nothing_of_what_is_kept(messages, cut, size):
    """Whenever it is loaded, and however events are batched, all is as if it had always been."""
    whole, live = state(), state()
    store = shown(whole)
    apply(whole, messages)
    shown(live)
    apply(live, messages[:cut], size)
    again = shown(live)
    apply(live, messages[cut:], 1)
    assert known(live, again) == known(whole, store)


def test_a_late_copy_does_not_change_what_was_published_anew():
    """Neither at once nor when the next bundle is loaded; it takes no room, either."""
    live = state()
    store = shown(live)
    for one in (
        post(3, 7, 2_000, "rain"),
        deletion(3, 3_000),
        post(3, 7, 4_000, "snow"),
        post(3, 7, 3_500, "rain"),
    ):
        apply(live, [one])
    assert not store.mention(np.array([3]), ("rain",))[0]
    assert not shown(live).mention(np.array([3]), ("rain",))[0]
    assert live.stats()["new_posts"] == 1


class Found:
    """What finds posts, by what it was told last."""

    def __init__(self) -> None:
        self.text: dict[int, str] = {}

    def add(self, posts: pa.Table) -> None:
        for row in posts.to_pylist():
            self.text.setdefault(row["post_id"], row["text"])

    def forget(self, post_id: np.ndarray) -> None:
        for one in post_id.tolist():
            self.text.pop(one, None)


def test_what_was_deleted_from_a_bundle_does_not_come_back_with_age():
    """When its newer version is let go, the old words are hidden: now, and over the same bundle."""
    live, found = state(max_posts=40), Found()
    store = shown(live)
    found.add(BUNDLE)
    live.tell(store, found)
    apply(live, [deletion(1, 2_000)])
    apply(live, [post(1, 1, 3_000, "new words")])
    assert store.mention(np.array([1]), ("new",))[0]
    assert found.text[1] == "new words"
    for n in range(3, 110):
        apply(live, [post(n, 1, 4_000 + n)])
    for one in (store, shown(live)):
        assert not one.has(1)
    assert 1 not in found.text
    assert found.text[2] == "old"
    apply(live, [post(1, 1, 3_000, "new words")])  # from a journal that is read again
    assert live._fed[0][0].mention(np.array([1]), ("new",))[0]


def test_a_bundle_that_has_the_new_version_shows_it():
    """One made after a post was published anew shows it, though the event was let go."""
    live = state(max_posts=40)
    store = shown(live)
    apply(live, [deletion(1, 2_000)])
    apply(live, [post(1, 1, 3_000, "new words"), *(post(n, 1, 4_000) for n in range(3, 110))])
    assert not store.has(1)
    row = {"post_id": 1, "author_id": 1, "created_at_ms": 3_000, "text": "new", "topic_ids": []}
    newer = live.over(pa.Table.from_pylist([row], schema=BUNDLE.schema), 3_500)
    assert newer.mention(np.array([1]), ("new",))[0]
    assert newer.has(1)


def test_a_bundle_knows_more_of_a_version_that_both_have():
    """What is kept of a post takes the place of older versions alone: its popularity stays."""
    live = state()
    shown(live)
    apply(live, [deletion(1, 2_000)])
    apply(live, [post(1, 1, 3_000, "new words")])
    row = {"post_id": 1, "author_id": 1, "created_at_ms": 3_000, "text": "new", "topic_ids": []}
    table = pa.Table.from_pylist([row], schema=BUNDLE.schema)
    newer = live.over(table.append_column("popularity", pa.array([0.5])), 3_500)
    assert newer.facts(np.array([1]))["popularity"].tolist() == [0.5]
    assert newer.has(1)


def test_what_finds_posts_forgets_what_is_replaced():
    """Told before or after, it finds a post that is back by its newest words alone."""
    live, before, after = state(), Found(), Found()
    store = shown(live)
    for found in (before, after):
        found.add(BUNDLE)
    live.tell(store, before)
    for one in (post(3, 7, 2_000, "rain"), *(deletion(n, 3_000) for n in (1, 3))):
        apply(live, [one])
    apply(live, [post(n, 7, 4_000, "snow") for n in (1, 3)])
    live.tell(store, after)
    assert before.text == after.text == {1: "snow", 2: "old", 3: "snow"}


def test_a_deletion_that_is_forgotten_takes_its_post_along():
    """What was deleted is not found again because there were too many deletions since."""
    live = state(max_deletions=20)
    store = shown(live)
    apply(live, [post(3), deletion(3, 2_000)])
    apply(live, [deletion(n, 3_000 + n) for n in range(10, 40)])
    for one in (store, shown(live)):
        assert not one.has(3)
    assert live.stats()["new_posts"] == 0


def test_a_post_from_the_future_makes_no_other_old():
    """However far its time lies ahead, posts of today are kept, and old ones go by today."""
    live = state(max_posts=1_000, max_age_s=50)
    store = shown(live)
    apply(live, [post(n, 1, 20_000) for n in range(3, 60)])
    apply(live, [post(n, 1, 90_000) for n in range(60, 63)])
    apply(live, [post(1_000, 9, 2**53)])
    known = store.facts(np.arange(3, 63))["known"]
    assert not known[:57].any()
    assert known[57:].all()


def test_a_deletion_counts_from_when_its_post_was_there():
    """By whatever clock: a copy of a post whose clock was ahead does not bring it back."""
    live = state()
    store = shown(live)
    apply(live, [post(3, 1, 5_000), deletion(3, 4_000)])
    apply(live, [post(3, 1, 5_000)])
    assert not store.has(3)
    assert not shown(live).has(3)


def test_a_block_counts_from_when_it_was_first_done():
    """Told again later, or again with another time, it is not undone for what came between."""
    live = state()
    shown(live)
    apply(live, [act(1, 2, "block_author", 3_000)])
    apply(live, [act(1, 2, "block_author", 5_000)])
    assert live.relations.blocked_by(2, 4_000).tolist() == [1]
    assert live.relations.posts(1, 4_000)[1].tolist() == [2]


def test_a_block_holds_once_a_bundle_says_who_wrote_the_post():
    """Whether it came before the bundle or while that was made."""
    live = state()
    shown(live)
    row = {"post_id": 50, "author_id": 9, "created_at_ms": 1_000, "text": "x", "topic_ids": []}
    apply(live, [act(1, 50, "block_author", 3_000)])
    assert live.relations.blocked_by(9).tolist() == []
    live.over(pa.concat_tables([BUNDLE, pa.Table.from_pylist([row], BUNDLE.schema)]), 2_000)
    apply(live, [act(2, 50, "block_author", 3_000)])
    assert live.relations.blocked_by(9).tolist() == [1, 2]


def test_an_older_bundle_has_counted_what_the_newer_one_knew():
    """Going back to it loses nothing of what was done in between."""
    live = state()
    shown(live, as_of_ms=5_000)
    apply(live, [act(1, 2, "favorite", 4_000), act(1, 2, "favorite", 6_000)])
    for as_of_ms, num in ((5_000, 1), (1_000, 2), (5_000, 1)):
        shown(live, as_of_ms)
        assert live.counts.of(np.array([2])).sum() == num


def test_what_failed_half_way_is_done_again():
    """A step that raises leaves nothing undone once the same events come again."""
    live, found = state(), Found()
    store = shown(live)

    class Fails(Found):
        fails = True

        def add(self, posts: pa.Table) -> None:
            if self.fails and len(posts):
                self.fails = False
                raise ConnectionError("out")

    for one in (Fails(), found):
        live.tell(store, one)
    with pytest.raises(ConnectionError):
        apply(live, [post(3), deletion(1)])
    apply(live, [post(3), deletion(1)])
    assert (store.has(3), store.has(1), 3 in found.text) == (True, False, True)


def test_a_client_whose_clock_is_ahead_publishes_anew():
    """Among recent posts, too, within the moment in which the post was deleted."""
    live = state()
    store = shown(live)
    apply(live, [post(3, 7, NOW_MS - 1_000)])
    apply(live, [deletion(3, NOW_MS + 20_000)])
    assert live.recent.read(9, [7], (), NOW_MS, 9).post_id.tolist() == []
    apply(live, [post(3, 7, NOW_MS + 25_000)])
    assert store.has(3)
    assert live.recent.read(9, [7], (), NOW_MS, 9).post_id.tolist() == [3]

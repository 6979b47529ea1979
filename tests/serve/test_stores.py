"""The stores answer as plain loops over the bundle's tables would."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import ACTION_NAMES, DAY_MS, EXAMPLES, FOLLOWS, POSTS, SPLITS, USERS
from serve.live.state import LiveState
from serve.stores.bundle import Stores, engagement
from serve.stores.graph import GraphStore
from serve.stores.posts import PostStore
from serve.stores.profiles import ProfileStore
from serve.stores.recent import RecentPosts
from serve.stores.users import UserStore
from train.rows import flatten, read_examples

IDS = st.integers(1, 12)
POST = st.fixed_dictionaries(
    {
        "author_id": st.none() | IDS,
        "created_at_ms": st.none() | st.sampled_from([1000, 2000, 3500]),
        "duration_s": st.none() | st.just(7.5),
        "reply_to_post_id": st.none() | st.integers(1, 15),
        "repost_of_post_id": st.none() | st.integers(1, 15),
        "quote_of_post_id": st.none() | st.integers(1, 15),
        "topic_ids": st.none() | st.lists(IDS, max_size=3),
        "text": st.sampled_from([None, "", " \n", "rain"]),
        "language": st.sampled_from([None, "en", "zh-Hant-TW"]),
        "popularity": st.sampled_from([0.0, 0.25, 0.5]),
    }
)
POST_ROWS = st.dictionaries(IDS, POST, min_size=1).map(
    lambda posts: [{"post_id": post_id, **facts} for post_id, facts in posts.items()]
)
POINTERS = {
    "reply_to_post_id": "reply_to_author_id",
    "repost_of_post_id": "repost_author_id",
    "quote_of_post_id": "quote_author_id",
}
SCHEMA = POSTS.arrow.append(pa.field("popularity", pa.float64()))


def _store(rows: list[dict]) -> PostStore:
    return PostStore(pa.Table.from_pylist(rows, schema=SCHEMA))


@given(POST_ROWS, st.lists(IDS))
def test_facts_are_those_of_the_row(rows, wanted):
    """Facts come in the order asked, and a post that nobody knows is said to be unknown."""
    facts = _store(rows).facts(np.array(wanted, np.int64))
    known = {row["post_id"]: row for row in rows}
    for place, post_id in enumerate(wanted):
        row = known.get(post_id, {})
        created, duration = row.get("created_at_ms"), row.get("duration_s")
        assert facts["known"][place] == (post_id in known)
        assert facts["author_id"][place] == (row.get("author_id") or 0)
        assert facts["popularity"][place] == row.get("popularity", 0.0)
        for pointer, author in POINTERS.items():
            target = row.get(pointer) or 0
            assert facts[pointer][place] == target
            assert facts[author][place] == (known.get(target, {}).get("author_id") or 0)
        assert [t for t in facts["topic_ids"][place] if t] == (row.get("topic_ids") or [])
        assert facts["language"][place] == (row.get("language") or "")
        assert facts["has_text"][place] == bool((row.get("text") or "").strip())
        assert facts["conversation_id"][place] == _first_of_chain(post_id, known)
        assert facts["created_at_s"][place] == pytest.approx(
            np.nan if created is None else created / 1000, nan_ok=True
        )
        assert facts["duration_s"][place] == pytest.approx(
            np.nan if duration is None else duration, nan_ok=True
        )


@given(POST_ROWS, st.lists(IDS))
def test_muted_words_are_found_in_the_text(rows, wanted):
    """A post mentions what its text says; a post without text, or not stored, says nothing."""
    mentioned = _store(rows).mention(np.array(wanted, np.int64), ("snow", "Rain"))
    texts = {row["post_id"]: row["text"] for row in rows}
    assert mentioned.tolist() == [texts.get(post_id) == "rain" for post_id in wanted]


def _first_of_chain(post_id: int, known: dict[int, dict]) -> int:
    """Climb from reply to reply, one by one; a circle leads nowhere."""
    passed, at = set(), post_id
    while at in known and known[at]["reply_to_post_id"]:
        if at in passed:
            return post_id
        passed.add(at)
        at = known[at]["reply_to_post_id"]
    return at


def test_long_conversations_have_one_root():
    """A thousand replies in a row are one conversation, whatever the order of their ids."""
    order = np.random.default_rng(0).permutation(1000) + 1
    rows = [
        {"post_id": int(post_id), "reply_to_post_id": int(before), "popularity": 0.0}
        for before, post_id in pairwise(order)
    ]
    facts = _store([{"post_id": int(order[0]), "popularity": 0.0}, *rows]).facts(order)
    assert (facts["conversation_id"] == order[0]).all()


@given(POST_ROWS, st.integers(1, 20))
def test_most_liked_are_the_most_liked(rows, num_posts):
    """Popular posts come best first, and equals by their id."""
    best = sorted(rows, key=lambda row: (-row["popularity"], row["post_id"]))[:num_posts]
    hits = _store(rows).most_liked(num_posts)
    assert hits.post_id.tolist() == [row["post_id"] for row in best]
    assert hits.value.tolist() == [row["popularity"] for row in best]


PROFILES = pa.schema([f for f in EXAMPLES if f.name == "user_id" or "history_" in f.name])


@given(st.dictionaries(IDS, st.lists(st.tuples(IDS, IDS), max_size=5)))
def test_a_profile_is_the_row(histories):
    """A viewer's history is their row of the table, and an unknown viewer has none."""
    rows = [
        {
            "user_id": user_id,
            **{
                f.name: [post if "post_id" in f.name else author for post, author in events]
                for f in list(PROFILES)[1:]
            },
        }
        for user_id, events in histories.items()
    ]
    store = ProfileStore(pa.Table.from_pylist(rows, schema=PROFILES))
    for user_id in range(1, 14):
        history = store.history(user_id)
        assert (history is None) == (user_id not in histories)
        if history is not None:
            assert history.post_id.tolist() == [post for post, _ in histories[user_id]]
            assert history.author_id.tolist() == [author for _, author in histories[user_id]]
            assert len(history.dwell_s) == len(history.at_ms) == len(history.did)
        assert store.seen(user_id).tolist() == sorted({p for p, _ in histories.get(user_id, [])})


@given(st.sets(st.tuples(IDS, IDS)))
def test_follows_are_the_pairs(pairs):
    """A viewer follows whom the table says, sorted, and some of them follow back."""
    rows = [{"follower_id": a, "followee_id": b} for a, b in pairs]
    store = GraphStore(pa.Table.from_pylist(rows, schema=FOLLOWS.arrow), _profiles({}))
    for user_id in range(1, 14):
        graph = store.of(user_id)
        assert graph.followed.tolist() == sorted(b for a, b in pairs if a == user_id)
        assert graph.mutual.tolist() == [b for b in graph.followed if (b, user_id) in pairs]
        assert len(graph.blocked) == len(graph.muted) == 0


def _profiles(acts: dict[int, list[tuple[int, str]]]) -> ProfileStore:
    """Viewers who did one thing each to posts of some authors."""
    rows = [
        {
            "user_id": user_id,
            **{f"history_{name}": [1] * len(theirs) for name in ("post_id", "surface", "at_ms")},
            "history_author_id": [author_id for author_id, _ in theirs],
            "history_did": [1 << ACTION_NAMES.index(action) for _, action in theirs],
            "history_dwell_s": [0.0] * len(theirs),
        }
        for user_id, theirs in acts.items()
    ]
    return ProfileStore(pa.Table.from_pylist(rows, schema=PROFILES))


def test_blocks_and_mutes_are_the_viewers_acts():
    """Whom a viewer blocked or muted in the log is blocked or muted, and nobody else is."""
    acts = [(7, "block_author"), (3, "block_author"), (7, "block_author"), (5, "mute_author")]
    acts += [(0, "block_author"), (9, "favorite")]
    store = GraphStore(FOLLOWS.arrow.empty_table(), _profiles({4: acts, 6: []}))
    assert store.of(4).blocked.tolist() == [3, 7]
    assert store.of(4).muted.tolist() == [5]
    for user_id in (6, 8):
        assert len(store.of(user_id).blocked) == len(store.of(user_id).muted) == 0


def test_engagement_is_what_the_log_counts(bundle, prepared):
    """After the log's end a post has been shown and liked as often as the log says; 0 if never."""
    rows = flatten(read_examples(prepared, *SPLITS))
    post_id = np.append(bundle.posts["post_id"].to_numpy()[:200], 10**9)
    later_ms = bundle.as_of_ms + 100 * DAY_MS
    counts = Stores.of(bundle, LiveState(RecentPosts(), lambda: bundle.as_of_ms)).engagement(
        post_id, later_ms
    )
    liked = rows.label(ACTION_NAMES.index("favorite")) > 0
    for place, one in enumerate(post_id):
        assert counts["num_views"][place] == (rows.post_id == one).sum()
        assert counts["num_likes"][place] == (liked & (rows.post_id == one)).sum()
    assert counts["num_likes"].sum() > 0
    early = Stores.of(bundle, LiveState(RecentPosts(), lambda: bundle.as_of_ms)).engagement(
        post_id, bundle.as_of_ms
    )
    assert (early["num_views"] <= counts["num_views"]).all()


def test_what_is_not_counted_is_unknown(bundle):
    """Without counts, or without counts of one action, a post's engagement is -1, not 0."""
    live = LiveState(RecentPosts(), lambda: bundle.as_of_ms)
    post_id = bundle.posts["post_id"].to_numpy()[:3]
    some = engagement(bundle.facts, {"num_likes": 1}, live, post_id, bundle.as_of_ms)
    assert (some["num_quotes"] == -1).all()
    assert (some["num_likes"] >= 0).all()
    none = engagement(replace(bundle.facts, rates={}), {}, live, post_id, bundle.as_of_ms)
    for counts in none.values():
        assert counts.tolist() == [-1, -1, -1]


@given(st.dictionaries(IDS, st.tuples(st.none() | IDS, st.none() | IDS)), st.lists(IDS))
def test_accounts_are_those_of_the_row(accounts, wanted):
    """Followers and age are the table's; of others both are unknown."""
    rows = [
        {"user_id": user_id, "num_followers": followers, "created_at_ms": created}
        for user_id, (followers, created) in accounts.items()
    ]
    facts = UserStore(pa.Table.from_pylist(rows, schema=USERS.arrow)).facts(
        np.array(wanted, np.int64)
    )
    for place, user_id in enumerate(wanted):
        followers, created = accounts.get(user_id, (None, None))
        assert facts["num_followers"][place] == (-1 if followers is None else followers)
        created_at_s = np.nan if created is None else created / 1000
        assert facts["created_at_s"][place] == pytest.approx(created_at_s, nan_ok=True)

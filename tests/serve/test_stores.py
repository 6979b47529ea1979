"""The stores answer as plain loops over the bundle's tables would."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import EXAMPLES, FOLLOWS, POSTS
from serve.stores.graph import GraphStore
from serve.stores.posts import PostStore
from serve.stores.profiles import ProfileStore
from serve.stores.served import ServedStore

IDS = st.integers(1, 12)
POST = st.fixed_dictionaries(
    {
        "author_id": st.none() | IDS,
        "created_at_ms": st.none() | st.sampled_from([1000, 2000, 3500]),
        "duration_s": st.none() | st.just(7.5),
        "popularity": st.sampled_from([0.0, 0.25, 0.5]),
    }
)
POST_ROWS = st.dictionaries(IDS, POST, min_size=1).map(
    lambda posts: [{"post_id": post_id, **facts} for post_id, facts in posts.items()]
)
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
        assert facts["created_at_s"][place] == pytest.approx(
            np.nan if created is None else created / 1000, nan_ok=True
        )
        assert facts["duration_s"][place] == pytest.approx(
            np.nan if duration is None else duration, nan_ok=True
        )


@given(POST_ROWS, st.lists(IDS, unique=True), st.integers(1, 5))
def test_newest_are_the_newest(rows, authors, num_posts):
    """The newest posts of some authors are what sorting all their posts gives."""
    theirs = [r for r in rows if r["author_id"] in authors and r["created_at_ms"] is not None]
    theirs.sort(key=lambda row: (-row["created_at_ms"], row["post_id"]))
    hits = _store(rows).newest(np.array(authors, np.int64), num_posts)
    assert hits.post_id.tolist() == [row["post_id"] for row in theirs[:num_posts]]
    assert hits.value.tolist() == [row["created_at_ms"] / 1000 for row in theirs[:num_posts]]


@given(POST_ROWS, st.integers(1, 20))
def test_most_liked_are_the_most_liked(rows, num_posts):
    """Popular posts come best first, and equals by their id."""
    best = sorted(rows, key=lambda row: (-row["popularity"], row["post_id"]))[:num_posts]
    hits = _store(rows).most_liked(num_posts)
    assert hits.post_id.tolist() == [row["post_id"] for row in best]
    assert hits.value.tolist() == [row["popularity"] for row in best]


@given(st.dictionaries(IDS, st.lists(st.tuples(IDS, IDS), max_size=5)))
def test_a_profile_is_the_row(histories):
    """A viewer's history is their row of the table, and an unknown viewer has none."""
    columns = [f for f in EXAMPLES if f.name == "user_id" or f.name.startswith("history_")]
    rows = [
        {
            "user_id": user_id,
            **{
                f.name: [post if "post_id" in f.name else author for post, author in events]
                for f in columns[1:]
            },
        }
        for user_id, events in histories.items()
    ]
    store = ProfileStore(pa.Table.from_pylist(rows, schema=pa.schema(columns)))
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
    """A viewer follows whom the table says, sorted; nobody blocks or mutes yet."""
    rows = [{"follower_id": a, "followee_id": b} for a, b in pairs]
    store = GraphStore(pa.Table.from_pylist(rows, schema=FOLLOWS.arrow))
    for user_id in range(1, 14):
        graph = store.of(user_id)
        assert graph.followed.tolist() == sorted(b for a, b in pairs if a == user_id)
        assert len(graph.blocked) == len(graph.muted) == 0


@given(st.lists(st.tuples(st.integers(1, 3), st.lists(IDS, min_size=1, max_size=4, unique=True))))
def test_served_pages_are_remembered(pages):
    """What was shown is remembered; before a page, what was shown before it."""
    store = ServedStore(num_viewers=3, num_posts=1000)
    for user_id, page in pages:
        store.add(user_id, np.array(page))
    for user_id in (1, 2, 3):
        theirs = [page for user, page in pages if user == user_id]
        assert store.before(user_id).tolist() == sorted({p for page in theirs for p in page})
        for place, page in enumerate(theirs):
            if not any(page[0] in later for later in theirs[place + 1 :]):
                earlier = {p for before in theirs[:place] for p in before}
                assert store.before(user_id, page[0]).tolist() == sorted(earlier)


def test_served_store_is_bounded():
    """Neither many viewers nor many pages make it grow; the newest stay."""
    store = ServedStore(num_viewers=2, num_posts=4)
    for start in range(0, 100, 2):
        store.add(1, np.array([start, start + 1]))
    assert store.before(1).tolist() == [96, 97, 98, 99]
    store.add(2, np.array([5]))
    store.add(3, np.array([6]))
    assert store.before(1).tolist() == []
    assert store.before(3).tolist() == [6]

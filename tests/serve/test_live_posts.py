"""Posts that come while the feed is served are known as if they had always been there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.schema import POSTS
from serve.stores import posts as module
from serve.stores.posts import PostStore

IDS = st.integers(1, 12)
POINTER = st.none() | st.integers(1, 14)
POST = st.fixed_dictionaries(
    {
        "author_id": st.none() | IDS,
        "created_at_ms": st.none() | st.just(2000),
        "reply_to_post_id": POINTER,
        "repost_of_post_id": POINTER,
        "quote_of_post_id": POINTER,
        "topic_ids": st.none() | st.lists(IDS, max_size=3),
        "text": st.sampled_from([None, "rain", "snow"]),
    }
)
ROWS = st.dictionaries(IDS, POST, min_size=1).map(
    lambda posts: [{"post_id": post_id, **facts} for post_id, facts in posts.items()]
)
ALL = np.arange(1, 15)


def table(rows: list[dict]) -> pa.Table:
    """Rows of schema.POSTS."""
    return pa.Table.from_pylist(rows, schema=POSTS.arrow)


@settings(max_examples=40)
@given(ROWS, st.lists(st.integers(1, 5), max_size=5), st.sampled_from([1, 3, 100]))
def test_posts_in_pieces_are_posts_at_once(rows, pieces, fresh):
    """Whatever pieces posts come in, threads across them included, facts are those of one table."""
    at_once = PostStore(table(rows)).facts(ALL)
    before, module._FRESH = module._FRESH, fresh
    try:
        store, begin = PostStore(table(rows[:1])), 1
        for length in (*pieces, len(rows)):
            store.add(table(rows[begin - 1 : begin + length]))  # the first of them for the second
            begin += length
    finally:
        module._FRESH = before
    in_pieces = store.facts(ALL)
    width = at_once["topic_ids"].shape[1]
    in_pieces["topic_ids"] = in_pieces["topic_ids"][:, :width]
    for name, values in at_once.items():
        np.testing.assert_array_equal(in_pieces[name], values, err_msg=name)
    np.testing.assert_array_equal(
        store.mention(ALL, ("rain",)), PostStore(table(rows)).mention(ALL, ("rain",))
    )


@settings(max_examples=40)
@given(ROWS, ROWS, st.lists(IDS, max_size=3))
def test_deleted_posts_are_unknown(before, after, deleted):
    """A deleted post and reposts of it are unknown, whether they came before or come later."""
    store = PostStore(table(before))
    store.delete(np.array(deleted, np.int64))
    store.add(table(after))
    rows = {row["post_id"]: row for row in [*after, *before]}
    for post_id, known in zip(ALL.tolist(), store.facts(ALL)["known"], strict=True):
        gone = {post_id, rows.get(post_id, {}).get("repost_of_post_id")} & set(deleted)
        assert known == (post_id in rows and not gone)
        assert store.has(post_id) == known

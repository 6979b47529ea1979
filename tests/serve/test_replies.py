"""Who answers whom, read downwards."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import POSTS
from serve.stores.threads import Replies

PARENTS = st.lists(st.integers(0, 25), max_size=25)  # of posts 1, 2, ...; circles among them


def table(reply_to: list[int], first: int = 1) -> pa.Table:
    """Posts from `first` on and what each answers, 0 = none; higher ids are more popular."""
    rows = [
        {"post_id": n, "reply_to_post_id": up or None} for n, up in enumerate(reply_to, start=first)
    ]
    popularity = pa.array([row["post_id"] / 100 for row in rows], pa.float64())
    return pa.Table.from_pylist(rows, POSTS.arrow).append_column("popularity", popularity)


def replies(*parts: pa.Table) -> Replies:
    """An index of these posts, added one part after another."""
    made = Replies()
    for part in parts:
        made.add(part)
    return made


@given(reply_to=PARENTS, focal=st.integers(1, 30))
def test_all_below_a_post_by_depth(reply_to, focal):
    """Every post whose way up leads to it, at its depth, the more popular of a level first."""
    depth = {}
    for start in range(1, len(reply_to) + 1):
        at, steps, seen = start, 0, set()
        while at != focal and 1 <= at <= len(reply_to) and at not in seen:
            seen.add(at)
            at, steps = reply_to[at - 1], steps + 1
        if at == focal and start != focal:
            depth[start] = steps
    hits = replies(table(reply_to)).below(focal, 100)

    assert hits.post_id.tolist() == sorted(depth, key=lambda n: (depth[n], -n))
    assert hits.value.tolist() == [1 / depth[n] for n in hits.post_id.tolist()]


@given(reply_to=PARENTS, focal=st.integers(1, 30), split=st.integers(0, 25), num=st.integers(1, 9))
def test_replies_come_in_parts(reply_to, focal, split, num):
    """Added later, or again, they are found as if they had been there; the first `num` of them."""
    rows = table(reply_to)
    parts = rows.slice(0, split), rows.slice(split), rows.slice(0, 3)
    whole = replies(rows).below(focal, 100)

    assert replies(*parts).below(focal, 100).post_id.tolist() == whole.post_id.tolist()
    assert replies(*parts).below(focal, num).post_id.tolist() == whole.post_id[:num].tolist()


def test_a_post_without_replies_has_none():
    """An empty answer, from an empty index too."""
    assert len(Replies().below(3, 10).post_id) == 0
    assert len(replies(table([0, 1, 0])).below(3, 10).post_id) == 0


def test_new_replies_need_no_popularity():
    """The columns of schema.POSTS are enough, as new posts have no others."""
    made = replies(table([0, 1]), table([1], first=9).drop(["popularity"]))
    assert made.below(1, 10).post_id.tolist() == [2, 9]

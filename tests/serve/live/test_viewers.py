"""What viewers do, on its way from the journal to where the feed reads it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import DELETIONS, POSTS
from serve.live.messages import Happened
from serve.live.relations import Relations
from serve.live.viewers import ViewerActions
from serve.stores.viewers import SqliteViewers
from serve.stores.viewers.store import ViewerStoreError
from tests.serve.viewers.contract import engaged, in_store, table


def engagements(*rows: dict) -> Happened:
    """Nothing happened but these."""
    return Happened(POSTS.arrow.empty_table(), DELETIONS.arrow.empty_table(), table(rows))


def test_engagements_reach_the_store():
    """What a thread applies is in the store when `apply` returns, once however often it comes."""

    async def test(store):
        view = ViewerActions(store, asyncio.get_running_loop())
        for happened in (engagements(engaged("a")), engagements(), engagements(engaged("a"))):
            await asyncio.to_thread(view.apply, happened)
        assert (await store.engagements(1)).to_pylist() == [engaged("a")]

    in_store(SqliteViewers, test)


def test_what_was_not_written_is_an_error():
    """A store that fails, one that does not answer and a loop that ended: `apply` raises."""

    class Down:
        async def add_engagements(self, rows):
            raise ViewerStoreError("redis: gone")

    class Slow:
        async def add_engagements(self, rows):
            await asyncio.Event().wait()

    async def test():
        loop = asyncio.get_running_loop()
        for store, said in ((Down(), "redis: gone"), (Slow(), "not written within 0.01 s")):
            view = ViewerActions(store, loop, timeout_s=0.01 if "0.01" in said else 60)
            with pytest.raises(ViewerStoreError, match=said):
                await asyncio.to_thread(view.apply, engagements(engaged("a")))
        return view

    view = asyncio.run(test())
    with pytest.raises(RuntimeError, match="closed"):
        view.apply(engagements(engaged("a")))


RELATED = st.lists(
    st.builds(
        engaged,
        st.uuids().map(str),
        st.integers(1, 9),
        user_id=st.integers(1, 2),
        post_id=st.integers(1, 4),
        action=st.sampled_from(["follow_author", "block_author", "mute_author", "favorite"]),
    ),
    max_size=10,
)


@given(RELATED, st.data())
def test_relations_are_what_viewers_did_about_authors(rows, data):
    """In any order, however often it comes; as of an instant, what was done before it."""
    again = data.draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    order = data.draw(st.permutations([*rows, *again]))
    cut = data.draw(st.integers(0, len(order)))
    relations = Relations()
    for part in (order[:cut], order[cut:]):
        relations.apply(engagements(*part).engagements)
    for user_id in (1, 2, 3):
        for before_ms in (None, 5):
            action, post_id, _ = relations.posts(user_id, before_ms)
            assert len(action) == len(post_id)
            assert set(zip(action.tolist(), post_id.tolist(), strict=True)) == {
                (row["action"], row["post_id"])
                for row in rows
                if row["user_id"] == user_id
                and row["action"] != "favorite"
                and (before_ms is None or row["at_ms"] < before_ms)
            }


@given(RELATED)
def test_who_blocks_whom_is_known_once_the_author_is(rows):
    """Whether a post's author is known when it is acted on, or only later."""
    at_once, later, author = Relations(), Relations(), np.array([0, 7, 8, 7, 9])
    told = engagements(*rows).engagements
    at_once.apply(told, author[told["post_id"].to_numpy()])
    later.apply(told)
    later.learn(np.arange(1, 5), author[1:])
    for author_id in (7, 8, 9):
        for before_ms in (None, 5):
            expected = {
                row["user_id"]
                for row in rows
                if row["action"] == "block_author"
                and author[row["post_id"]] == author_id
                and (before_ms is None or row["at_ms"] < before_ms)
            }
            assert at_once.blocked_by(author_id, before_ms).tolist() == sorted(expected)
            assert later.blocked_by(author_id, before_ms).tolist() == sorted(expected)

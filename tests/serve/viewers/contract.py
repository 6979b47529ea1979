"""What every store of viewers promises; each implementation's tests hold it to all of it.

A promise takes a function that opens a new and empty store within some bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.schema import ENGAGEMENTS
from serve.stores.viewers.store import Page, ViewerStore, before, posts_of

Open = Callable[..., ViewerStore]  # takes the settings of Bounds by name
Promise = Callable[[Open], None]
AT_MS = 1_700_000_000_000


def engaged(event_id: str, at_ms: int = AT_MS, **columns: Any) -> dict[str, Any]:
    """A row of schema.ENGAGEMENTS: viewer 1 likes post 1 unless told otherwise."""
    row = {"event_id": event_id, "user_id": 1, "post_id": 1, "at_ms": at_ms, "action": "favorite"}
    return row | {"dwell_s": None, "surface": None, "request_id": None} | columns


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a store takes them."""
    return pa.Table.from_pylist(list(rows), ENGAGEMENTS.arrow)


def page(request_id: str, posts: Iterable[int], at_ms: int = AT_MS, surface: int = 0) -> Page:
    """A page of some posts."""
    return Page(request_id, surface, at_ms, np.array(list(posts), np.int64))


def told(pages: Iterable[Page]) -> list[tuple[str, int, int, list[int]]]:
    """Pages as values that compare."""
    return [(p.request_id, p.surface, p.at_ms, p.post_id.tolist()) for p in pages]


def in_store(open_store: Open, test: Callable[[ViewerStore], Awaitable[Any]], **bounds: int) -> Any:
    """Run a test with a store of its own, closed afterwards."""

    async def body() -> Any:
        store = open_store(**bounds)
        try:
            return await test(store)
        finally:
            await store.close()

    return asyncio.run(body())


EVENTS = st.lists(
    st.builds(
        engaged,
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4),
        st.integers(AT_MS, AT_MS + 3),
        user_id=st.integers(1, 2),
        post_id=st.sampled_from([1, 2, 2**63 - 1]),
        action=st.sampled_from(["favorite", "block_author"]),
        dwell_s=st.none() | st.floats(0, 1e9, width=32),
        surface=st.none() | st.integers(0, 15),
        request_id=st.none() | st.just("r"),
    ),
    unique_by=lambda row: row["event_id"],
    max_size=8,
)


def engagements_in_any_order_are_the_same_history(open_store: Open) -> None:
    """Whatever the order, the batches and the duplicates, the newest are kept, oldest first."""

    @settings(max_examples=60, deadline=None)
    @given(EVENTS, st.data())
    def any_order(rows, data):
        again = data.draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
        order = data.draw(st.permutations([*rows, *again]))
        size = data.draw(st.integers(1, 4))

        async def test(store):
            for start in range(0, len(order), size):
                await store.add_engagements(table(order[start : start + size]))
            for user_id in (1, 2, 3):
                theirs = [row for row in rows if row["user_id"] == user_id]
                theirs.sort(key=lambda row: (row["at_ms"], row["event_id"]))
                found = await store.engagements(user_id)
                assert found.schema == ENGAGEMENTS.arrow
                assert found.to_pylist() == theirs[-3:]

        in_store(open_store, test, num_engagements=3)

    any_order()


def of_one_name_the_first_counts(open_store: Open) -> None:
    """An event named as one before changes nothing, whatever else it says; viewers are apart."""

    async def test(store):
        await store.add_engagements(table([engaged("a"), engaged("a", action="reply")]))
        await store.add_engagements(table([engaged("a", AT_MS + 1), engaged("a", user_id=2)]))
        assert (await store.engagements(1)).to_pylist() == [engaged("a")]
        assert (await store.engagements(2)).to_pylist() == [engaged("a", user_id=2)]

    in_store(open_store, test)


def nothing_written_is_nothing_kept(open_store: Open) -> None:
    """A viewer never heard of has no engagements and no pages, and writing none is no error."""

    async def test(store):
        await store.add_engagements(table([]))
        assert (await store.engagements(1)).to_pylist() == []
        assert await store.pages(1) == []

    in_store(open_store, test)


def pages_are_remembered(open_store: Open) -> None:
    """Pages come oldest first with their posts in order, one a request however often written."""

    async def test(store):
        big = [2**63 - 1, 5, 2**53 + 1]
        for one in (page("b", big, AT_MS + 5, 3), page("a", [7]), page("b", [9], AT_MS + 9)):
            await store.add_page(1, one)
        await store.add_page(2, page("b", [4]))
        assert told(await store.pages(1)) == [("a", 0, AT_MS, [7]), ("b", 3, AT_MS + 5, big)]
        assert told(await store.pages(2)) == [("b", 0, AT_MS, [4])]

    in_store(open_store, test)


def pages_are_bounded(open_store: Open) -> None:
    """The newest pages stay as long as all their posts have room; an empty one takes none."""

    async def test(store):
        for at in range(20):
            await store.add_page(1, page(f"{at:02}", [at, at + 100], AT_MS + at))
        await store.add_page(1, page("empty", [], AT_MS + 30))
        kept = await store.pages(1)
        assert [one.request_id for one in kept] == ["18", "19", "empty"]
        await store.add_page(1, page("large", range(5), AT_MS + 40))
        assert await store.pages(1) == []

    in_store(open_store, test, num_posts=4)


def before_a_page_is_what_was_shown_before_it(open_store: Open) -> None:
    """Of a post on several pages the newest counts; one on no page leaves out nothing."""

    async def test(store):
        for at, posts in enumerate([[1, 2], [3], [2, 4], [5]]):
            await store.add_page(1, page(str(at), posts, AT_MS + at))
        pages = await store.pages(1)
        assert posts_of(before(pages, 2)).tolist() == [1, 2, 3]
        assert posts_of(before(pages, 1)).tolist() == []
        assert posts_of(before(pages, 9)).tolist() == [1, 2, 3, 2, 4, 5]

    in_store(open_store, test)


def many_at_once_lose_nothing(open_store: Open) -> None:
    """Writes side by side are all there afterwards."""

    async def test(store):
        events = [engaged(f"e{at:02}", AT_MS + at, user_id=1 + at % 3) for at in range(30)]
        adding = [store.add_engagements(table([row])) for row in events]
        showing = [store.add_page(1, page(f"p{at:02}", [at], AT_MS + at)) for at in range(30)]
        await asyncio.gather(*adding, *showing)
        found = [(await store.engagements(user_id)).to_pylist() for user_id in (1, 2, 3)]
        assert found == [events[0::3], events[1::3], events[2::3]]
        assert posts_of(await store.pages(1)).tolist() == list(range(30))

    in_store(open_store, test)


PROMISES: tuple[Promise, ...] = (
    engagements_in_any_order_are_the_same_history,
    of_one_name_the_first_counts,
    nothing_written_is_nothing_kept,
    pages_are_remembered,
    pages_are_bounded,
    before_a_page_is_what_was_shown_before_it,
    many_at_once_lose_nothing,
)
every_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda one: one.__name__)

"""A service that failed is left alone for a moment."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.stores.viewers.breaker import Breaker, OpenError


class DownError(Exception):
    """What the service says while it is down."""


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=40))
def test_calls_within_a_pause_are_not_made(calls):
    """After a failure nothing is tried for as long as the pause; a success ends it at once."""
    now, silent_until = 0.0, 0.0

    async def test():
        nonlocal now, silent_until
        breaker = Breaker(1.0, lambda: now)
        for tenths, up in calls:
            now += tenths / 8
            tried = breaker.num_tried

            async def work(up=up):
                if not up:
                    raise DownError("gone")
                return 7

            if now < silent_until:
                with pytest.raises(OpenError, match="DownError: gone"):
                    await breaker.call(work)
                assert breaker.num_tried == tried
            elif up:
                assert await breaker.call(work) == 7
                silent_until = 0.0
            else:
                with pytest.raises(DownError):
                    await breaker.call(work)
                silent_until = now + 1
        assert breaker.num_tried + breaker.num_refused == len(calls)

    asyncio.run(test())


def test_one_call_finds_out_for_all():
    """After a pause one call is tried alone; the others fail at once until it is done."""
    now = 0.0

    async def test():
        nonlocal now
        breaker, go_on = Breaker(1.0, lambda: now), asyncio.Event()

        async def down():
            raise DownError

        async def slow():
            await go_on.wait()

        with pytest.raises(DownError):
            await breaker.call(down)
        now = 2.0
        first = asyncio.create_task(breaker.call(slow))
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(OpenError):
                await breaker.call(slow)
        first.cancel()  # says nothing: the next one finds out
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        await breaker.call(slow)
        await breaker.call(slow)
        assert (breaker.num_tried, breaker.num_refused) == (4, 3)

    asyncio.run(test())

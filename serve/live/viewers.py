"""What viewers do goes from the journal into the store that keeps it for them."""

from __future__ import annotations

import asyncio

from serve.live.messages import Happened
from serve.stores.viewers.store import ViewerStore, ViewerStoreError


class ViewerActions:
    """A `View` that writes engagements to a store of viewers, which counts each of them once.

    The store lives on an event loop, where the feed reads it; the one thread that calls `apply`
    hands its work over to that loop and waits. So that loop must never wait for that thread:
    stop whatever calls `apply` from another one, as by `asyncio.to_thread`.
    """

    def __init__(
        self, store: ViewerStore, loop: asyncio.AbstractEventLoop, timeout_s: float = 30.0
    ) -> None:
        """Take the store and the loop that it is used on; give up a write after `timeout_s`."""
        self._store, self._loop, self._timeout_s = store, loop, timeout_s

    def apply(self, happened: Happened) -> None:
        """As `View`.

        Raises:
            ViewerStoreError: not all of it may be written.
            RuntimeError: the loop is closed.
        """
        if not len(happened.engagements):
            return
        writing = self._store.add_engagements(happened.engagements)
        try:
            done = asyncio.run_coroutine_threadsafe(writing, self._loop)
        except RuntimeError:
            writing.close()
            raise
        try:
            done.result(self._timeout_s)
        except TimeoutError:
            done.cancel()
            raise ViewerStoreError(
                f"engagements not written within {self._timeout_s:g} s; will come again"
            ) from None

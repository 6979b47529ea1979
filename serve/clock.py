"""What time it is in a served feed: the real one, or that of a log from the past."""

from __future__ import annotations

import threading
import time
from typing import Literal

from serve.live.state import LiveState


class WallClock:
    """The real time.

    Attributes:
        max_ahead_s: how far an event's time may be in the future: clients' clocks differ.
    """

    max_ahead_s = 60.0

    def stand(self, as_of_ms: int) -> None:
        """Take no note of the bundle in use."""

    def now_ms(self, live: LiveState) -> int:
        """Since 1970."""
        return time.time_ns() // 1_000_000


class LogClock:
    """A clock that stood at the bundle's newest event when the bundle was loaded.

    It is never behind an event that was taken in, since it was stopped when the server was, and
    those go on from the last one. It never goes back: neither by an event that was told of late
    nor by an older bundle.

    Attributes:
        max_ahead_s: as above; 0, since it is pushed by what it hears of.
    """

    max_ahead_s = 0.0

    def __init__(self) -> None:
        """Nobody can tell the time before the first `stand`."""
        self._zero_ms: int | None = None  # what it showed when time.monotonic was 0
        self._lock = threading.Lock()

    def stand(self, as_of_ms: int) -> None:
        """A bundle is in use whose newest event is of `as_of_ms`; go on from there."""
        self._push(as_of_ms, time.monotonic())

    def now_ms(self, live: LiveState) -> int:
        """Since 1970, `live` being all that was taken in; RuntimeError before `stand`."""
        if self._zero_ms is None:
            raise RuntimeError("no bundle is loaded")
        return self._push(live.newest_ms, live.newest_s) + int(1000 * time.monotonic())

    def _push(self, at_ms: int, told_s: float) -> int:
        """It was `at_ms` at `told_s` of time.monotonic or later; returns what it showed at 0."""
        zero_ms = at_ms - int(1000 * told_s)
        with self._lock:
            self._zero_ms = zero_ms if self._zero_ms is None else max(self._zero_ms, zero_ms)
            return self._zero_ms


def make_clock(kind: Literal["wall", "log"]) -> WallClock | LogClock:
    """The clock of that name."""
    return WallClock() if kind == "wall" else LogClock()

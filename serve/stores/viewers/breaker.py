"""Asks a service that failed just now no more for a moment, so that nobody waits for it in vain."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class OpenError(RuntimeError):
    """The service was not asked, since it failed a moment ago; the text says how."""


class Breaker:
    """Lets calls through until one fails; then, after each pause, one alone until one succeeds.

    Used on one event loop.

    Attributes:
        num_tried: calls let through since the start.
        num_refused: calls that failed at once.
    """

    def __init__(self, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Pause so many seconds after each failure."""
        self._pause_s, self._clock = pause_s, clock
        self._failed_at: float | None = None  # None: the last call that ended went well
        self._why = ""
        self._probing = False
        self.num_tried = 0
        self.num_refused = 0

    @property
    def failing(self) -> bool:
        """Whether the last call that ended failed."""
        return self._failed_at is not None

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`, whose every exception counts as a failure of the service.

        Work that is cancelled from outside says nothing about the service.

        Raises:
            OpenError: it was not tried.
            Exception: whatever `work` raises.
        """
        probe = self._failed_at is not None
        if self._failed_at is not None and (
            self._probing or self._clock() - self._failed_at < self._pause_s
        ):
            self.num_refused += 1
            raise OpenError(f"not asked again yet after {self._why}")
        self._probing |= probe
        self.num_tried += 1
        try:
            result = await work()
        except Exception as error:
            self._failed_at, self._why = self._clock(), f"{type(error).__name__}: {error}"
            raise
        else:
            self._failed_at = None
            return result
        finally:
            if probe:
                self._probing = False

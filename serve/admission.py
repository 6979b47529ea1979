"""How much one replica takes on at once, and what it says to the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import NonNegativeInt, PositiveInt

from configs import Config


class Limits(Config):
    """What one replica takes on at once."""

    max_in_flight: PositiveInt = 32  # requests; one more is answered 503
    max_events_in_flight: PositiveInt = 16  # requests that tell events, beside those
    retry_after_s: NonNegativeInt = 1  # what a refused client is told to wait
    slot_viewers: PositiveInt = 10_000  # whose last slots are kept in memory
    cached_bytes: NonNegativeInt = 128 * 2**20  # of posts scored for last pages; 80 kB a viewer


class UnavailableError(Exception):
    """What is asked cannot be answered now; the same may be asked again later."""

    def __init__(self, why: str, retry_after_s: int) -> None:
        super().__init__(f"{why}; try again later")
        self.retry_after_s = retry_after_s


class OverloadedError(UnavailableError):
    """More requests at once than `Limits` allow."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests at once", retry_after_s)


class Admission:
    """Lets so many requests in at once, and refuses the others without a wait.

    For one event loop: it takes no lock.

    Attributes:
        in_flight: requests being answered.
    """

    def __init__(self, max_in_flight: int, retry_after_s: int) -> None:
        self._max_in_flight, self._retry_after_s = max_in_flight, retry_after_s
        self.in_flight = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request for as long as it takes.

        Raises:
            OverloadedError: `max_in_flight` are being answered.
        """
        if self.in_flight >= self._max_in_flight:
            raise OverloadedError(self._retry_after_s)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

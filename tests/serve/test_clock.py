"""What time it is in a served feed."""

from __future__ import annotations

import time

import pytest

from serve.clock import LogClock
from serve.live.state import LiveState
from serve.stores.recent import RecentPosts

AS_OF_MS = 1_000_000_000_000


@pytest.fixture
def live() -> LiveState:
    """Nothing happened yet."""
    return LiveState(RecentPosts(), lambda: AS_OF_MS)


def test_an_event_told_late_does_not_set_the_logs_clock_back(live):
    """An event that is the newest but was told of after its time leaves the clock where it was."""
    clock = LogClock()
    clock.stand(AS_OF_MS)
    live.newest_ms, live.newest_s = AS_OF_MS + 60_000, time.monotonic() - 10
    before_ms = clock.now_ms(live)
    assert before_ms >= AS_OF_MS + 70_000
    live.newest_ms, live.newest_s = AS_OF_MS + 65_000, time.monotonic()
    assert clock.now_ms(live) >= before_ms


@pytest.mark.parametrize("later_ms", [-1_000, 1_000])
def test_the_logs_clock_goes_on_from_a_bundle_unless_it_is_older(live, later_ms):
    """A newer bundle pushes the clock to its newest event; an older one does not set it back."""
    clock = LogClock()
    clock.stand(AS_OF_MS)
    clock.stand(AS_OF_MS + later_ms)
    assert 0 <= clock.now_ms(live) - (AS_OF_MS + max(later_ms, 0)) < 60_000

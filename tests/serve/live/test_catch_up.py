"""Readiness cannot wait for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.live.catch_up import CatchUp


@given(
    start=st.integers(0, 10_000),
    batch=st.integers(1, 50),
    written=st.integers(0, 100),
    applied=st.lists(st.booleans(), min_size=1, max_size=5).filter(any),
)
def test_catching_up_ends(start: int, batch: int, written: int, applied: list[bool]):
    """However fast others write and however small batches are, it ends, after what lay there."""
    catch_up = CatchUp()
    lag, read, steps = start, 0, 0
    while not catch_up.done:
        num = min(batch, lag)
        lag, read = lag - num + written, read + num
        catch_up.read(num)
        if applied[steps % len(applied)]:
            catch_up.applied()
        if catch_up.asks:
            catch_up.counted(lag)
        steps += 1
        assert steps < 100_000
    assert read >= start

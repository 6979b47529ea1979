"""Tables that grow: few large parts and some small ones, so that adding a little copies little."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

T = TypeVar("T", bound=Sized)


def with_tier(tiers: tuple[T, ...], new: T, merge: Callable[[T, T], T]) -> tuple[T, ...]:
    """`tiers` and `new`; from the first to the last each has less than half of the one before.

    Parts that would break that are merged, older first: what is added one by one is copied
    about log2 of their number times.
    """
    kept = list(tiers)
    while kept and len(kept[-1]) <= 2 * len(new):
        new = merge(kept.pop(), new)
    return (*kept, new)

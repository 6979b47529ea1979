"""How parts are computed from counts, for many posts or authors at once.

Axes: N posts or authors, A actions. NaN = unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.diagnostics.rates import Floats, Needed, rate_beside, worth_beside
from pipelines.diagnostics.tally import Base, Tally

# Acts that carry a post to people who were not shown it.
SPREAD = ("reply", "repost", "quote", "share", "share_via_dm", "share_via_copy_link")


@dataclass(frozen=True)
class Measured:
    """One part of N posts or authors. [N]; NaN = unknown.

    Attributes:
        value, low, high: the part and its 95 % interval; where it is counted and not estimated,
            the three are one.
        sample: how many things were counted; minimum: how many are needed.
        inputs: numbers of the formula by name, each [N] or one for all.
    """

    value: Floats
    low: Floats
    high: Floats
    sample: Floats
    minimum: float
    inputs: Mapping[str, ArrayLike]


def rate(
    done: ArrayLike, shown: Floats, base: float, needed: Needed, words: tuple[str, str]
) -> Measured:
    """A rate beside the base rate; `words` name the counts among the inputs."""
    value, low, high = rate_beside(done, shown, base)
    inputs = {words[0]: done, words[1]: shown, "base_rate": base}
    return Measured(value, low, high, shown, needed.showings(base), inputs)


def counted(value: Floats, sample: Floats, minimum: float, **inputs: ArrayLike) -> Measured:
    """A number that is counted and not estimated."""
    return Measured(value, value, value, sample, minimum, inputs)


def worth(tally: Tally, base: Base, needed: Needed, weight: Floats) -> Measured:
    """Acts that have a weight, of all showings, beside the base rates."""
    counts = worth_beside(tally.done, tally.shown, base.rates, weight)
    minimum = needed.showings(base.rates, weight)
    inputs: dict[str, ArrayLike] = {"shown": tally.shown}
    for at in np.flatnonzero(weight > 0):
        name = base.actions[at]
        inputs[name] = tally.done[:, at]
        inputs[f"{name}_base_rate"] = base.rates[at]
        inputs[f"{name}_weight"] = weight[at]
    return Measured(*counts, tally.shown, minimum, inputs)


def beyond_topic(tally: Tally, base: Base, needed: Needed) -> Measured:
    """Acts that have a positive weight, beside the rates of other posts on the same topics."""
    weight = base.weights(1)
    shown = tally.topical_shown
    expected = tally.expected / np.maximum(shown, 1)[:, None]
    counts = worth_beside(tally.topical_done, shown, expected, weight)
    minimum = needed.showings(base.rates, weight)
    inputs: dict[str, ArrayLike] = {"shown": shown}
    for at in np.flatnonzero(weight > 0):
        name = base.actions[at]
        inputs[name] = tally.topical_done[:, at]
        inputs[f"{name}_topic_rate"] = expected[:, at]
        inputs[f"{name}_weight"] = weight[at]
    return Measured(*counts, shown, minimum, inputs)


def spread(tally: Tally, base: Base, needed: Needed) -> Measured:
    """Acts of SPREAD that the log shows, each weighing 1, beside the base rates."""
    seen: NDArray[np.bool_] = np.isin(base.actions, SPREAD) & (base.done > 0)
    return worth(tally, base, needed, seen.astype(np.float64))


def follows_won(tally: Tally, base: Base, needed: Needed) -> Measured:
    """Follows of the author among the showings of all the author's posts."""
    base_rate = dict(zip(base.actions, base.rates, strict=True))["follow_author"]
    account = tally.account
    words = ("follow_author", "shown")
    return rate(account.followed, account.shown, base_rate, needed, words)


def of_account(name: str, number: str) -> Callable[[Tally, Base, Needed], Measured]:
    """A number of the author's posts, once there are enough of them."""

    def measured(tally: Tally, base: Base, needed: Needed) -> Measured:
        value, num = getattr(tally.account, name), getattr(tally.account, number)
        return counted(value, num, needed.min_posts, **{name: value, number: num})

    return measured


def of_graph(name: str) -> Callable[[Tally, Base, Needed], Measured]:
    """A number of the graph, which is counted and needs no sample."""

    def measured(tally: Tally, base: Base, needed: Needed) -> Measured:
        value = getattr(tally.account, name)
        return counted(value, np.zeros(len(value)), 0.0, **{name: value})

    return measured


def cited(tally: Tally, base: Base, needed: Needed) -> Measured:
    """Pointers of others to the author's posts; never known where no post points at any."""
    found, num = tally.account.cited, tally.account.num_posts
    minimum = math.inf if np.isnan(found).all() else needed.min_posts
    return counted(found, num, minimum, cited=found, num_posts=num)

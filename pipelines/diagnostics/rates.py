"""How often something was done, how sure that is, and how it stands beside the log's base rate.

Intervals take showings for independent. Those to one viewer resemble each other, so where a few
viewers make up most showings of an author the truth is less sure than they say.

Axes: N posts or authors, A actions; every function works row by row.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveInt

from configs import Config
from pipelines.signals import PRIOR

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

Z = 1.959963984540054  # a normal variable lies within so many deviations 95 times in 100


class Needed(Config):
    """What must be known before a number is stated; with less it is unknown.

    How much is needed depends on the log, never on what was counted of the post itself: what is
    unknown is no sign of what it is.
    """

    # A part of something like the log over all must have a 95 % interval no wider than this.
    max_interval: float = Field(default=0.4, gt=0, lt=1)
    # Posts of an author: a share of one half of ten posts has a standard error of 0.16.
    min_posts: PositiveInt = 10
    # Events of a viewer: likewise, 0.11.
    min_events: PositiveInt = 20
    # Posts, authors or viewers that a percentile is among: its steps are then of 5 %.
    min_compared: PositiveInt = 20

    def showings(self, base: ArrayLike, weight: ArrayLike = 1.0) -> float:
        """Fewest showings from which a part beside the base rates is stated; inf = never.

        Of n showings at the base rates p, V = sum of w times rate has a deviation of at most
        sum of w sqrt(p (1 - p) / n), and V / (V + V0) about a quarter of that over V0: 95 % of
        which must fit into `max_interval`.

        Args:
            base: rate of each act in the log.
            weight: of each.
        """
        base, weight = np.broadcast_arrays(base, np.asarray(weight, np.float64))
        typical = float((weight * base).sum())
        if not typical > 0:
            return math.inf
        off = float((weight * np.sqrt(base * np.maximum(1 - base, 0))).sum())
        return max(float(math.ceil((Z / (2 * self.max_interval) * off / typical) ** 2)), 1.0)


def wilson(done: ArrayLike, shown: ArrayLike) -> tuple[Floats, Floats]:
    """95 % interval of a rate; 0 to 1 where nothing was shown.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 1927.
    """
    done, shown = np.asarray(done, np.float64), np.asarray(shown, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = done / shown
        middle = (rate + Z**2 / (2 * shown)) / (1 + Z**2 / shown)
        half = Z * np.sqrt(rate * (1 - rate) / shown + Z**2 / (4 * shown**2)) / (1 + Z**2 / shown)
    known = shown > 0
    # Rounding must not move an end past the rate: at 0 and at 1 they are equal.
    low = np.where(known, np.clip(np.minimum(middle - half, rate), 0, 1), 0.0)
    high = np.where(known, np.clip(np.maximum(middle + half, rate), 0, 1), 1.0)
    return low, high


def toward(done: ArrayLike, shown: ArrayLike, base: ArrayLike) -> Floats:
    """Mean of a rate after `shown`, when it began as PRIOR showings at the base rate."""
    done, shown, base = (np.asarray(values, np.float64) for values in (done, shown, base))
    return (done + PRIOR * base) / (shown + PRIOR)


def deviation(done: ArrayLike, shown: ArrayLike, base: ArrayLike) -> Floats:
    """Standard deviation of the same: of Beta(done + PRIOR p, shown - done + PRIOR (1 - p))."""
    mean = toward(done, shown, base)
    return np.sqrt(mean * (1 - mean) / (np.asarray(shown, np.float64) + PRIOR + 1))


def beside(rate: ArrayLike, base: ArrayLike) -> Floats:
    """Odds of `rate` over the sum of its own and the base rate's odds: 0.5 = the base rate."""
    rate, base = np.asarray(rate, np.float64), np.asarray(base, np.float64)
    mine, theirs = rate * (1 - base), base * (1 - rate)
    with np.errstate(invalid="ignore", divide="ignore"):
        return mine / (mine + theirs)


def rate_beside(done: ArrayLike, shown: ArrayLike, base: float) -> tuple[Floats, Floats, Floats]:
    """A smoothed rate beside the base rate, with the ends of its interval. [N] each.

    The interval is Wilson's, of the counts with the prior's showings among them.
    """
    done, shown = np.asarray(done, np.float64), np.asarray(shown, np.float64)
    low, high = wilson(done + PRIOR * base, shown + PRIOR)
    value, low, high = (beside(r, base) for r in (toward(done, shown, base), low, high))
    return value, low, high


def worth_beside(
    done: ArrayLike, shown: ArrayLike, base: ArrayLike, weight: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """What a showing is worth beside what it is worth at the base rates: V / (V + V0).

    V = sum of weight times smoothed rate, V0 the same of the base rates. The interval is of V,
    95 % by the rates' deviations, added as if all acts came together, so it errs on the wide
    side.

    Args:
        done: [N, A].
        shown: [N].
        base: [A] or [N, A].
        weight: at least 0. [A].

    Returns:
        Value and ends of its interval; NaN where V0 is 0 or unknown. [N] each.
    """
    shown, weight = np.asarray(shown, np.float64)[:, None], np.asarray(weight, np.float64)
    base = np.broadcast_to(np.asarray(base, np.float64), np.shape(done))
    value, typical = toward(done, shown, base) @ weight, base @ weight
    off = Z * (deviation(done, shown, base) @ weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = [v / (v + typical) for v in (value, np.maximum(value - off, 0), value + off)]
    typical_known = typical > 0
    value, low, high = (np.where(typical_known, end, np.nan) for end in ends)
    return value, low, high


def same_kind(owner: Ids, kind: Ids, num: int) -> Floats:
    """Chance that two things drawn from those of one owner are of one kind; NaN for under two.

    Unbiased by how many there are, unlike an entropy (Simpson, "Measurement of diversity",
    Nature 1949).

    Args:
        owner: 0..num - 1, of each thing. [n].
        kind: of each thing. [n].
        num: owners.
    """
    mine, count = _kinds(owner, kind)
    total = np.bincount(mine, weights=count, minlength=num)
    pairs = np.bincount(mine, weights=count * (count - 1), minlength=num)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 1, pairs / (total * (total - 1)), np.nan)


def entropy_bits(owner: Ids, kind: Ids, num: int) -> Floats:
    """Entropy of the kinds of each owner's things, in bits; too low where there are few. [num]."""
    mine, count = _kinds(owner, kind)
    total = np.bincount(mine, weights=count, minlength=num)
    share = count / total[mine]
    bits = np.bincount(mine, weights=-share * np.log2(share), minlength=num)
    return np.maximum(bits, 0.0).astype(np.float64)  # no -0.0


def _kinds(owner: Ids, kind: Ids) -> tuple[Ids, Floats]:
    """Owner of each pair of owner and kind that there is, and how often it is there."""
    order = np.lexsort((kind, owner))
    owner, kind = owner[order], kind[order]
    new = np.append(True, (np.diff(owner) != 0) | (np.diff(kind) != 0))[: len(owner)]
    start = np.flatnonzero(new)
    return owner[start], np.diff(np.append(start, len(owner))).astype(np.float64)


def regularity(owner: Ids, at_ms: Ids, num: int) -> Floats:
    """How evenly instants are spaced: 1 = a clock, 0.5 = at random, 0 = in bursts; NaN if unknown.

    (1 - B) / 2 with the burstiness B = (s - m) / (s + m), which is m / (m + s), m and s the mean
    and the deviation of the gaps (Goh and Barabasi, "Burstiness and memory in complex systems",
    EPL 2008).

    Args:
        owner: 0..num - 1, of each instant. [n].
        at_ms: the instants. [n].
        num: owners.
    """
    order = np.lexsort((at_ms, owner))
    owner, at_ms = owner[order], at_ms[order]
    within = owner[1:] == owner[:-1]
    mine, gap = owner[1:][within], np.diff(at_ms)[within].astype(np.float64)
    count = np.bincount(mine, minlength=num)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(mine, weights=gap, minlength=num) / count
        off = np.bincount(mine, weights=(gap - mean[mine]) ** 2, minlength=num) / count
        return np.where((count > 1) & (mean > 0), mean / (mean + np.sqrt(off)), np.nan)


def centrality(follower: Ids, followee: Ids, num: int) -> Floats:
    """PageRank of accounts 0..num - 1 in the graph of follows; sums to 1. [num].

    Page et al., "The PageRank citation ranking", 1999: damping 0.85, 50 rounds, and who follows
    nobody passes on to all alike.
    """
    damping, rounds = 0.85, 50
    out = np.bincount(follower, minlength=num).astype(np.float64)
    rank = np.full(num, 1 / max(num, 1))
    for _ in range(rounds):
        sent = np.where(out > 0, rank / np.maximum(out, 1), 0)
        got = np.bincount(followee, weights=sent[follower], minlength=num)
        rank = damping * (got + rank[out == 0].sum() / num) + (1 - damping) / num
    return rank.astype(np.float64)


def percentile(value: ArrayLike, among: Floats) -> Floats:
    """Share of the sorted `among` that lies below, those that are equal counted half."""
    value = np.asarray(value, np.float64)
    if not len(among):
        return np.full(value.shape, np.nan)
    below, upto = (np.searchsorted(among, value, side=side) for side in ("left", "right"))
    return np.where(np.isnan(value), np.nan, (below + upto) / (2 * len(among)))

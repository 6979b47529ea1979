"""Each row of a log gets a score from strictly earlier rows alone.

Axes: n rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from train.rows import Rows

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

PRIOR = 20.0  # a rate starts as that of this many showings at the overall rate


def earlier(key: NDArray, at_ms: Ids, *amounts: NDArray) -> list[Floats]:
    """Sum of each amount over the rows with the same key and a strictly smaller time. [n] each.

    Rows of equal time do not see each other; the order of the rows does not matter.
    """
    order = np.lexsort((at_ms, key))
    new_key = np.diff(key[order], prepend=key[order][:1] - 1) != 0
    new_tie = new_key | (np.diff(at_ms[order], prepend=0) != 0)
    index = np.arange(len(order))
    start = np.maximum.accumulate(np.where(new_key, index, 0))
    here = np.maximum.accumulate(np.where(new_tie, index, 0))
    sums = []
    for amount in amounts:
        total = np.concatenate([[0.0], np.cumsum(amount[order], dtype=np.float64)])
        out = np.empty(len(order))
        out[order] = total[here] - total[start]
        sums.append(out)
    return sums


def overall_rate(rows: Rows, action: int) -> Floats:
    """Share of all earlier showings with the action; starts at one in two. [n]."""
    nothing = np.zeros(len(rows), np.int64)
    done, shown = earlier(nothing, rows.shown_at_ms, rows.label(action), rows.seen(action))
    return (done + 1) / (shown + 2)


def user_rate(rows: Rows, action: int) -> Floats:
    """How often this viewer did it before. [n]."""
    return _rate(rows, action, rows.user_id)


def post_rate(rows: Rows, action: int) -> Floats:
    """How often it was done to this post before. [n]."""
    return _rate(rows, action, rows.post_id)


def author_rate(rows: Rows, action: int) -> Floats:
    """How often it was done to posts of this author before; unknown authors are one. [n]."""
    return _rate(rows, action, rows.author_id)


def user_and_post(rows: Rows, action: int) -> Floats:
    """Logit of p = logit user rate + logit post rate - logit overall rate. [n]."""
    user, post = _logit(user_rate(rows, action)), _logit(post_rate(rows, action))
    return 1 / (1 + np.exp(_logit(overall_rate(rows, action)) - user - post))


def popularity(rows: Rows, action: int) -> Floats:
    """How many times it was done to this post before: a count, not a probability. [n]."""
    return earlier(rows.post_id, rows.shown_at_ms, rows.label(action))[0]


RANKING: dict[str, Callable[[Rows, int], Floats]] = {
    "popularity": popularity,
    "user_rate": user_rate,
    "post_rate": post_rate,
    "author_rate": author_rate,
    "user_and_post": user_and_post,
}
COUNTS = frozenset({"popularity"})  # are no probabilities
PROBABILITIES = frozenset(RANKING) - COUNTS


def _rate(rows: Rows, action: int, key: Ids) -> Floats:
    """(done + PRIOR * overall) / (shown + PRIOR), over earlier rows with the same key."""
    done, shown = earlier(key, rows.shown_at_ms, rows.label(action), rows.seen(action))
    return (done + PRIOR * overall_rate(rows, action)) / (shown + PRIOR)


def _logit(p: Floats) -> Floats:
    return np.log(p / (1 - p))

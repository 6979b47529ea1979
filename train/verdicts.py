"""Verdicts on our numbers beside published ones: how far off, by which gate, and whether it passes.

Axes: B rows, K places of a ranking, N things ranked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Check = dict[str, Any]  # a result with `passed`, or one without that is for information

SHARE_GATE, FEWEST = 0.95, 20  # of equal choices in bfloat16; of fewer a share says nothing
_ROUNDING = 5e-7  # values nearer than this may stand in either order: a few float32 roundings


def error(ours: NDArray, theirs: NDArray, gate: float | None) -> Check:
    """The largest absolute difference; None = not finite, which passes no gate."""
    largest = float(np.abs(ours - theirs.astype(np.float64)).max(initial=0))
    check: Check = {"max_abs_error": largest if np.isfinite(largest) else None, "values": ours.size}
    if gate is None:
        return check | {"passed": bool(np.isfinite(largest))}
    return check | {"gate": gate, "passed": largest <= gate}


def equal(ours: Any, theirs: Any) -> Check:
    """Whether all values are the same."""
    return {"passed": bool(np.array_equal(ours, theirs))}


def order(ours: NDArray, theirs: NDArray, values: NDArray, valid: NDArray | None = None) -> Check:
    """Whether two rankings [B, K] of `values` [B, N] agree on valid entries, bool [B, N].

    Entries whose values differ by no more than float32 rounds may stand in either order.
    """
    if theirs.min(initial=0) < 0 or theirs.max(initial=0) >= values.shape[1]:
        return {"identical": False, "passed": False}
    identical, passed = True, True
    for row, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if valid is not None:
            a, b = a[valid[row][a]], b[valid[row][b]]
        same = np.array_equal(a, b)
        identical &= same
        passed &= same or (
            len(a) == len(b) and bool((np.abs(values[row][a] - values[row][b]) <= _ROUNDING).all())
        )
    return {"identical": identical, "passed": passed}


def first(ours: NDArray, theirs: NDArray, valid: NDArray) -> Check:
    """Share of rows with a valid candidate whose best one is the same."""
    rows = [(a[v[a]], b[v[b]]) for a, b, v in zip(ours, theirs, valid, strict=True) if v.any()]
    return share(sum(int(a[0] == b[0]) for a, b in rows), len(rows))


def share(num_equal: int, num: int) -> Check:
    """The share of equal choices; of fewer than FEWEST it is for information."""
    check: Check = {"share": num_equal / max(1, num), "num": num}
    if num < FEWEST:
        return check
    return check | {"gate": SHARE_GATE, "passed": num_equal >= SHARE_GATE * num}

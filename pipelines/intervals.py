"""How far a number may be off when other viewers had come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def bootstrap_interval(
    group: ArrayLike,
    statistic: Callable[[Floats], float],
    num_rounds: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic when whole groups (viewers) are drawn anew.

    Rows of one viewer resemble each other, so viewers, not rows, are drawn with replacement
    (Field and Welsh, "Bootstrapping clustered data", JRSS B 2007).

    Args:
        group: the viewer of each row. [n].
        statistic: weights [n] -> value; a weight is how often the row's viewer was drawn.
        num_rounds: draws.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN if the statistic is NaN in every round.
    """
    rng = np.random.default_rng(seed)
    names, row = np.unique(np.asarray(group), return_inverse=True)
    values = np.array([statistic(_draw_groups(rng, len(names))[row]) for _ in range(num_rounds)])
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def _draw_groups(rng: np.random.Generator, num: int) -> Floats:
    return np.bincount(rng.integers(num, size=num), minlength=num).astype(np.float64)

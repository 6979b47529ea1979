"""Shares with intervals that know which answers come together."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

_Z = 1.959964  # 95 %


@dataclass(frozen=True)
class Share:
    """How often something was so: `low` and `high` are the ends of its 95 % interval."""

    share: float
    low: float
    high: float
    num: int
    num_clusters: int

    def as_dict(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


def wilson(hits: ArrayLike, cluster: ArrayLike | None = None) -> Share:
    """A share with Wilson's score interval (1927), its sample cut to what clusters leave of it.

    The effective number of answers is p (1 - p) over the variance of p when clusters are drawn,
    at least the number of clusters and at most that of answers; where all answers are alike it is
    the number of clusters.

    Args:
        hits: whether it was so. [n].
        cluster: answers that come together, such as both directions of a pair. [n]; None = none.
    """
    hit = np.asarray(hits, np.float64)
    _, of = np.unique(np.arange(len(hit)) if cluster is None else cluster, return_inverse=True)
    num, clusters = len(hit), int(of.max() + 1) if len(hit) else 0
    if not num:
        return Share(float("nan"), 0.0, 1.0, 0, 0)
    p = float(hit.mean())
    off = np.bincount(of, hit - p)
    variance = float(off @ off) / num**2 * clusters / max(1, clusters - 1)
    size = p * (1 - p) / variance if variance > 0 and 0 < p < 1 else float(clusters)
    size = float(np.clip(size, clusters, num))
    shrink = 1 + _Z**2 / size
    middle = (p + _Z**2 / (2 * size)) / shrink
    half = _Z / shrink * (p * (1 - p) / size + _Z**2 / (4 * size**2)) ** 0.5
    return Share(p, max(0.0, middle - half), min(1.0, middle + half), num, clusters)

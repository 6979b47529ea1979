"""How much of the same a viewer has had, and how much less more of it counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.facts import find
from pipelines.feed.services import Served


def fading(times: NDArray, decay: float, floor: float) -> NDArray[np.float64]:
    """What multiplies a score after so many of the same: (1 - floor) · decay^times + floor."""
    return (1 - floor) * decay**times + floor


def exposure(
    served: Served, name: Literal["author_id", "topic_ids"], now_ms: int, half_life_hours: float
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """What to ask how often ids were served: a post counts 2^(-age / half-life), 1 if just now.

    Returns:
        ids of any shape -> float64 of that shape; 0 for the id 0.
    """
    age_hours = np.maximum(now_ms - served.shown_at_ms, 0) / 3_600_000
    ids = served.topic_ids if name == "topic_ids" else served.author_id[:, None]
    weight = np.broadcast_to(0.5 ** (age_hours / half_life_hours)[:, None], ids.shape)
    known, row = np.unique(ids[ids > 0], return_inverse=True)
    # The last one stands for what was not served.
    total = np.bincount(row, weight[ids > 0], len(known) + 1).astype(np.float64)
    return lambda asked: total[find(asked, known)]

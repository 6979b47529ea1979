from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class Novelty(Scorer):
    """Raises posts by authors who are new to the viewer: 1 + boost · 2^(-n / half).

    n counts the posts by the author in the viewer's history. Unknown authors (id 0) are not
    raised. Off unless `boost` is set.
    """

    needs = ("author_id", "query.history")
    provides: ClassVar = {"novelty_multiplier": np.float64}
    fails = "open"
    boost: NonNegativeFloat = 0.0
    half: PositiveFloat = 1.0  # posts after which half of it is left

    def enabled(self, query: FeedQuery) -> bool:
        """Where a boost is set; to a viewer without a history all is new."""
        return self.boost > 0 and query["history"] is not None

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Count in the history; waits for nothing."""
        author_id = posts["author_id"]
        known, count = np.unique(query["history"].author_id, return_counts=True)
        at = np.searchsorted(known, author_id)
        padded_id, padded_count = np.append(known, -1), np.append(count, 0)
        met = np.where(padded_id[at] == author_id, padded_count[at], 0)
        novelty = np.where(author_id > 0, 0.5 ** (met / self.half), 0.0)
        return {"novelty_multiplier": 1 + self.boost * novelty}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so where it shows."""
        multiplier = posts["novelty_multiplier"][row]
        return f"author new to you ×{multiplier:.2f}" if multiplier > 1.005 else None

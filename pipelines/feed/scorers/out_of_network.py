from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveFloat

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class OutOfNetwork(Scorer):
    """Lowers posts from authors whom the viewer does not follow."""

    needs = ("in_network", "query.graph")
    provides: ClassVar = {"out_of_network_multiplier": np.float64}
    fails = "open"
    factor: PositiveFloat = 0.75

    def enabled(self, query: FeedQuery) -> bool:
        """Says nothing about the posts of a viewer who follows nobody."""
        return len(query["graph"].followed) > 0

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Look at the mark; waits for nothing."""
        return {"out_of_network_multiplier": np.where(posts["in_network"], 1.0, self.factor)}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so where it applies."""
        if posts["in_network"][row]:
            return None
        return f"out of network ×{posts['out_of_network_multiplier'][row]:.2f}"

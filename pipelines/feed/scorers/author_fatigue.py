from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat

from pipelines.feed.fatigue import exposure, fading
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class AuthorFatigue(Scorer):
    """Lowers posts by authors of whom the viewer's last pages were full.

    Each post that was served counts 2^(-age / half-life); an author's n such posts multiply
    the score by (1 - floor) · decay^n + floor. Unknown authors (id 0) tire nobody.
    """

    needs = ("author_id", "query.served")
    provides: ClassVar = {"author_fatigue_multiplier": np.float64}
    fails = "open"
    half_life_hours: PositiveFloat = 6.0
    decay: Annotated[float, Field(ge=0, le=1)] = 0.9
    floor: Annotated[float, Field(ge=0, le=1)] = 0.5

    def enabled(self, query: FeedQuery) -> bool:
        """Says nothing of a first page."""
        return len(query["served"].post_id) > 0

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Count what was served; waits for nothing."""
        amount = exposure(query["served"], "author_id", query.now_ms, self.half_life_hours)
        seen = amount(posts["author_id"])
        return {"author_fatigue_multiplier": fading(seen, self.decay, self.floor)}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so where it shows."""
        multiplier = posts["author_fatigue_multiplier"][row]
        return f"author shown lately ×{multiplier:.2f}" if multiplier < 0.995 else None

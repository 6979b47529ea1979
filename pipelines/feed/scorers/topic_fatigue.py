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
class TopicFatigue(Scorer):
    """Lowers posts on topics of which the viewer's last pages were full.

    As author_fatigue, by the mean over a post's topics. Topics are coarse, so each post
    counts less; one on no topic tires nobody.
    """

    needs = ("topic_ids", "query.served")
    provides: ClassVar = {"topic_fatigue_multiplier": np.float64}
    fails = "open"
    half_life_hours: PositiveFloat = 6.0
    decay: Annotated[float, Field(ge=0, le=1)] = 0.99
    floor: Annotated[float, Field(ge=0, le=1)] = 0.8

    def enabled(self, query: FeedQuery) -> bool:
        """Says nothing of a first page."""
        return len(query["served"].post_id) > 0

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Count what was served; waits for nothing."""
        amount = exposure(query["served"], "topic_ids", query.now_ms, self.half_life_hours)
        num_topics = (posts["topic_ids"] > 0).sum(axis=1)
        seen = amount(posts["topic_ids"]).sum(axis=1) / np.maximum(num_topics, 1)
        return {"topic_fatigue_multiplier": fading(seen, self.decay, self.floor)}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so where it shows."""
        multiplier = posts["topic_fatigue_multiplier"][row]
        return f"topic shown lately ×{multiplier:.2f}" if multiplier < 0.995 else None

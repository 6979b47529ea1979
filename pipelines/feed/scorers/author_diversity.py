from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from pipelines.feed.fatigue import fading
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class AuthorDiversity(Scorer):
    """Lowers an author's second and later posts: (1 - floor) · decay^k + floor.

    k counts the author's posts with a higher base score, after a new author's lift; ties
    count in the order of the table, NaN comes last. Unknown authors (id 0) are each their own.
    """

    needs = ("author_id", "base_score")
    wants = ("cold_start_multiplier",)
    provides: ClassVar = {"author_position": np.int64, "author_diversity_multiplier": np.float64}
    fails = "open"
    decay: Annotated[float, Field(ge=0, le=1)] = 0.5
    floor: Annotated[float, Field(ge=0, le=1)] = 0.25

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Count along the order of base scores; waits for nothing."""
        score = posts["base_score"]
        if "cold_start_multiplier" in posts:
            score = score * posts["cold_start_multiplier"]
        best_first = np.argsort(-score, kind="stable")
        by_author = best_first[np.argsort(posts["author_id"][best_first], kind="stable")]
        author_id = posts["author_id"][by_author]
        at = np.arange(len(posts))
        starts = np.r_[True, author_id[1:] != author_id[:-1]]
        position = np.empty(len(posts), np.int64)
        position[by_author] = at - np.maximum.accumulate(np.where(starts, at, 0))
        position[posts["author_id"] == 0] = 0
        multiplier = fading(position, self.decay, self.floor)
        return {"author_position": position, "author_diversity_multiplier": multiplier}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say which of the author's posts it is, from the second on."""
        nth = int(posts["author_position"][row]) + 1
        if nth == 1:
            return None
        ending = {1: "st", 2: "nd", 3: "rd"}.get(nth % 10 if nth % 100 not in (11, 12, 13) else 0)
        multiplier = posts["author_diversity_multiplier"][row]
        return f"author's {nth}{ending or 'th'} post ×{multiplier:.2f}"

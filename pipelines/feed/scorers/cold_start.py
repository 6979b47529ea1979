from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class ColdStart(Scorer):
    """Lifts one post by a little-known author towards the page, so that someone gets to see it.

    Of a request's posts, the one with the best base score × w is lifted from its score s to
    s + w (t - s), t the `slot`-th best score, if that is above s. w is the product of
    1 / (1 + (x / limit)^sharpness) over the author's followers, the post's views, and its
    rank as a share of all scored above 0: near 1 well below each limit, 1/2 at it. So
    nobody's reach ends at a certain number of followers, as it does by the published rule.
    Replies, reposts and posts of which followers or views are not known are never lifted.
    """

    needs = (
        *("base_score", "num_followers", "num_views"),
        *("reply_to_post_id", "repost_of_post_id"),
    )
    provides: ClassVar = {"cold_start_multiplier": np.float64}
    fails = "open"
    max_followers: PositiveFloat = 1000.0
    max_views: PositiveFloat = 1000.0
    max_rank: Annotated[float, Field(gt=0)] = 0.85  # share of the posts scored above 0
    sharpness: PositiveFloat = 8.0
    slot: PositiveInt = 16

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Find the post and where it is to go; waits for nothing."""
        multiplier = np.ones(len(posts))
        score = np.nan_to_num(posts["base_score"])
        best_first = np.argsort(-score, kind="stable")
        rank = np.flatnonzero(self.eligible(posts, score)[best_first])
        if len(rank) and len(posts) >= self.slot:
            rows, num_scored = best_first[rank], (score > 0).sum()
            weight = self.weight(posts, rows, rank / num_scored)
            best = int(np.argmax(weight * score[rows]))  # of equal ones the first
            row, slot = rows[best], best_first[self.slot - 1]
            gap = max(score[slot] - score[row], 0.0)
            multiplier[row] = 1 + weight[best] * gap / score[row]
        return {"cold_start_multiplier": multiplier}

    def eligible(self, posts: Candidates, score: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which posts might be lifted at all. bool [C]."""
        known = (posts["num_followers"] >= 0) & (posts["num_views"] >= 0)
        original = (posts["reply_to_post_id"] == 0) & (posts["repost_of_post_id"] == 0)
        return known & original & (score > 0)

    def weight(
        self, posts: Candidates, rows: NDArray[np.int64], share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """W of some posts, each ranked below such a share of those scored. float64 [n]."""
        followers = posts["num_followers"][rows] / self.max_followers
        views = posts["num_views"][rows] / self.max_views
        over = np.stack([followers, views, share / self.max_rank])
        with np.errstate(over="ignore"):  # far above a limit the weight is 0
            return 1 / (1 + over**self.sharpness).prod(axis=0)

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so of the post that was lifted."""
        multiplier = posts["cold_start_multiplier"][row]
        return f"new author ×{multiplier:.2f}" if multiplier > 1 else None

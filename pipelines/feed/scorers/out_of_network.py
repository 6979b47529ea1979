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
    """Lowers posts from authors whom the viewer does not follow, and anyone's replies and reposts.

    `replies_and_reposts: false` spares those of followed authors. Where the request wants
    certain topics, most posts are strangers' and count `factor_by_topic` instead.
    """

    needs = ("in_network", "reply_to_post_id", "repost_of_post_id", "query.graph")
    provides: ClassVar = {"out_of_network_multiplier": np.float64}
    fails = "open"
    factor: PositiveFloat = 0.75
    factor_by_topic: PositiveFloat = 0.5
    replies_and_reposts: bool = True

    def enabled(self, query: FeedQuery) -> bool:
        """Says nothing about the posts of a viewer who follows nobody."""
        return len(query["graph"].followed) > 0

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Look at the mark; waits for nothing."""
        lowered = ~posts["in_network"]
        if self.replies_and_reposts:
            lowered |= (posts["reply_to_post_id"] > 0) | (posts["repost_of_post_id"] > 0)
        factor = self.factor_by_topic if query.topic_ids else self.factor
        return {"out_of_network_multiplier": np.where(lowered, factor, 1.0)}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so where it applies."""
        multiplier = posts["out_of_network_multiplier"][row]
        if multiplier == 1:
            return None
        reply = "repost" if posts["repost_of_post_id"][row] else "reply"
        what = reply if posts["in_network"][row] else "out of network"
        return f"{what} ×{multiplier:.2f}"

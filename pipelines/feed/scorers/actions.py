from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipelines.facts import find
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class Actions(Scorer):
    """Predicts what the viewer would do with each post: probabilities, and seconds of dwell.

    What was predicted for an earlier page stands; only the other posts are ranked.
    """

    needs = ("post_id", "author_id", "query.history")
    wants = ("query.cached_posts",)
    provides: ClassVar = {"p_action": np.float32}  # [C, A]
    fails = "open"  # base_score falls back to popularity
    timeout_ms: PositiveInt = 2000

    def enabled(self, query: FeedQuery) -> bool:
        """Nothing to predict from for a viewer without a history."""
        return query["history"] is not None

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask the ranker once for all posts without a prediction, if there are any."""

        async def ranked(rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
            asked = posts.post_id[rows], posts["author_id"][rows]
            return await services.rank(query["history"], *asked, query.surface, query.now_ms)

        if not query.from_cache:
            return {"p_action": await ranked(slice(None))}
        before = query["cached_posts"]
        order = np.argsort(before.post_id)
        at = find(posts.post_id, before.post_id[order])
        known = at >= 0
        p_action = np.empty((len(posts), before.p_action.shape[1]), np.float32)
        p_action[known] = before.p_action[order[at[known]]]
        if not known.all():
            p_action[~known] = await ranked(np.flatnonzero(~known))
        return {"p_action": p_action}

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns
from pipelines.schema import ACTION_NAMES

_REPLY, _VQV = ACTION_NAMES.index("reply"), ACTION_NAMES.index("vqv")


@dataclass(frozen=True, kw_only=True)
class ActionWeights(Scorer):
    """Weighs actions post by post: watching counts for long videos, replies between friends more.

    A quality view counts for videos longer than `vqv_min_s`, shown to viewers with fewer than
    `vqv_max_followers`, if that is known; a post of unknown length counts as none. A reply to
    an original post counts `mutual_reply` more where viewer and author follow each other.
    """

    needs = ("author_id", "duration_s", "reply_to_post_id", "repost_of_post_id", "query.blend")
    wants = ("query.viewer", "query.graph")
    provides: ClassVar = {"action_weight": np.float64, "mutual_follow": np.bool_}  # [C, A], [C]
    fails = "open"  # base_score falls back to popularity
    vqv_min_s: NonNegativeFloat = 10.0  # 0 = any post
    vqv_max_followers: NonNegativeInt = 10_000
    mutual_reply: NonNegativeFloat = 15.0

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Start from the weights in use; waits for nothing."""
        blend = query["blend"]
        weights = np.tile(blend.weights, (len(posts), 1))
        viewer, graph = query.context.get("viewer"), query.context.get("graph")
        if viewer is not None and viewer.num_followers >= self.vqv_max_followers:
            weights[:, _VQV] = 0.0
        elif self.vqv_min_s:
            weights[~(posts["duration_s"] > self.vqv_min_s), _VQV] = 0.0
        mutual = np.zeros(len(posts), np.bool_)
        if graph is not None and len(graph.mutual) and blend.learned[_REPLY]:
            mutual = np.isin(posts["author_id"], graph.mutual)
            mutual &= (posts["reply_to_post_id"] == 0) & (posts["repost_of_post_id"] == 0)
            weights[mutual, _REPLY] += self.mutual_reply
        return {"action_weight": weights, "mutual_follow": mutual}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say so between friends."""
        return "you follow each other" if posts["mutual_follow"][row] else None

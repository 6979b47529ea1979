from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, PostFilter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class ConversationDedup(PostFilter):
    """Shows one post of a conversation: the one with the best score, of equals the higher one.

    A post and the replies to it, and those to them, are one conversation.
    """

    needs = ("conversation_id", "score")
    fails = "open"

    def keep(self, query: FeedQuery, page: Candidates) -> NDArray[np.bool_]:
        """Keep the first of each conversation along the order of scores; NaN is the worst."""
        best_first = np.argsort(-page["score"], kind="stable")
        first = np.unique(page["conversation_id"][best_first], return_index=True)[1]
        keep = np.zeros(len(page), np.bool_)
        keep[best_first[first]] = True
        return keep

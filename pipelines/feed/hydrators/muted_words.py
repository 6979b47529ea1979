from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Hydrator
from pipelines.feed.table import Candidates, Columns

_TEXTS = ("post_id", "repost_of_post_id", "quote_of_post_id")  # what is read on a screen


@dataclass(frozen=True, kw_only=True)
class MutedWords(Hydrator):
    """Marks posts that mention a word or phrase which the viewer muted, quoted texts included."""

    needs = (*_TEXTS, "query.graph")
    provides: ClassVar = {"mentions_muted": np.bool_}
    fails = "open"  # the filter muted_keyword then drops what was not looked at
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask the post store, for viewers who muted any words."""
        marks = np.zeros(len(posts), np.bool_)
        if keywords := query["graph"].muted_keywords:
            for name in _TEXTS:
                if posts[name].any():
                    marks |= await services.mentions(posts[name], keywords)
        return {"mentions_muted": marks}

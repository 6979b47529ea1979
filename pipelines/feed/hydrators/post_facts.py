from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Hydrator
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class PostFacts(Hydrator):
    """Looks up author, age, length and popularity; `known` is false where nothing is on file."""

    needs = ("post_id",)
    provides: ClassVar = {
        "known": np.bool_,
        "author_id": np.int64,  # 0 = unknown
        "created_at_s": np.float64,  # NaN = unknown
        "duration_s": np.float64,  # NaN = unknown
        "popularity": np.float64,  # in [0, 1]
    }
    fails = "open"  # the filter unknown_post then drops what is not known
    timeout_ms: PositiveInt = 500

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask the post store once for all posts."""
        facts = await services.posts(posts.post_id)
        return {name: facts[name] for name in self.provides}

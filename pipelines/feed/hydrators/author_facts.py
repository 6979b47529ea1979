from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Hydrator
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class AuthorFacts(Hydrator):
    """Looks up how many accounts follow each post's author."""

    needs = ("author_id",)
    provides: ClassVar = {"num_followers": np.int64}  # -1 = unknown
    fails = "open"  # without it no author counts as new
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask the user store once for all authors."""
        facts = await services.users(posts["author_id"])
        return {"num_followers": facts["num_followers"]}

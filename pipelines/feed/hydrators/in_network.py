from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Hydrator
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class InNetwork(Hydrator):
    """Marks posts by the viewer or by someone whom the viewer follows."""

    needs = ("author_id", "query.graph")
    provides: ClassVar = {"in_network": np.bool_}
    fails = "open"

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Compare authors with the viewer's graph; waits for nothing."""
        author_id = posts["author_id"]
        followed = np.isin(author_id, query["graph"].followed)
        return {"in_network": followed | (author_id == query.user_id)}

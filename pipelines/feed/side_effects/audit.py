from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, SideEffect
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class Audit(SideEffect):
    """Writes a share of all requests down with every post that was scored for them, and how.

    Whether a request is among them follows from its id alone, so whoever reads the event log
    knows which. Off unless `share` is set.
    """

    needs = ("post_id", "score", "base_score")
    whole_pool = True
    timeout_ms: PositiveInt = 5000
    share: Annotated[float, Field(ge=0, le=1)] = 0.0

    def enabled(self, query: FeedQuery) -> bool:
        """Compare the first 8 bytes of sha256 of the id, as a fraction of 2^64, with the share."""
        digest = hashlib.sha256(query.request_id.encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    async def run(self, query: FeedQuery, page: Candidates, services: Services) -> None:
        """Hand the posts to the log."""
        await services.audit(query.user_id, query.request_id, query.now_ms, query.surface, page)

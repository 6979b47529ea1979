from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Hydrator
from pipelines.feed.table import Candidates, Columns
from pipelines.feed.visibility import mask_of

_MASK = mask_of(["for_subscribers"])


@dataclass(frozen=True, kw_only=True)
class Subscriptions(Hydrator):
    """Marks posts for subscribers alone, and reposts of such: labelled so, or their author is."""

    needs = ("post_id", "author_id", "repost_of_post_id", "repost_author_id")
    provides: ClassVar = {"for_subscribers": np.bool_, "repost_for_subscribers": np.bool_}
    fails = "open"  # the filter ineligible_subscription then drops what was not looked at
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask for labels as of the request; of reposted posts only where there are any."""

        async def marked(post: str, author: str) -> NDArray[np.bool_]:
            labels = await services.labels("post", posts[post], query.now_ms)
            labels = labels | await services.labels("author", posts[author], query.now_ms)
            return labels & _MASK > 0

        reposts = np.zeros(len(posts), np.bool_)
        if posts["repost_of_post_id"].any():
            reposts = await marked("repost_of_post_id", "repost_author_id")
        return {
            "for_subscribers": await marked("post_id", "author_id"),
            "repost_for_subscribers": reposts & (posts["repost_of_post_id"] > 0),
        }

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
    """Looks up who wrote a post, when, on what, and which posts it answers, repeats or quotes.

    `known` is false where nothing is on file. Posts without threads, topics or text, as most
    public logs have them, hold zeros there.
    """

    needs = ("post_id",)
    provides: ClassVar = {
        "known": np.bool_,
        "author_id": np.int64,  # 0 = unknown
        "created_at_s": np.float64,  # NaN = unknown
        "duration_s": np.float64,  # of its video, NaN = unknown or none
        "popularity": np.float64,  # in [0, 1]
        "reply_to_post_id": np.int64,  # 0 = answers none
        "reply_to_author_id": np.int64,  # 0 = unknown, as where that post is not on file
        "repost_of_post_id": np.int64,  # 0 = repeats none
        "repost_author_id": np.int64,  # 0 = unknown
        "quote_of_post_id": np.int64,  # 0 = quotes none
        "quote_author_id": np.int64,  # 0 = unknown
        # The first post of the chain of replies, as far as it is known; its own id if it is none.
        "conversation_id": np.int64,
        "topic_ids": np.int64,  # [C, T], 0 = no more
        "language": np.dtype("U12"),  # BCP 47 tag, "" = unknown
        "has_text": np.bool_,
    }
    fails = "open"  # the filter unknown_post then drops what is not known
    timeout_ms: PositiveInt = 500

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask the post store once for all posts."""
        facts = await services.posts(posts.post_id)
        return {name: facts[name] for name in self.provides}

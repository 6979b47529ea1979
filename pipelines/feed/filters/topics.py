from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class Topics(Filter):
    """Keeps posts on the topics that the request wants, and drops those on ones it excludes.

    A post on a wanted and an excluded topic is dropped; a post on no topic is not wanted
    where any topic is.
    """

    needs = ("topic_ids",)
    fails = "closed"  # the request says what may be shown

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look each of a post's topics up in the request's two lists."""
        keep = np.ones(len(posts), np.bool_)
        if query.topic_ids:
            keep &= np.isin(posts["topic_ids"], query.topic_ids).any(axis=1)
        if query.excluded_topic_ids:
            keep &= ~np.isin(posts["topic_ids"], query.excluded_topic_ids).any(axis=1)
        return keep

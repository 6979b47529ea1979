from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates
from pipelines.feed.visibility import Verdict


@dataclass(frozen=True, kw_only=True)
class Visibility(Filter):
    """Drops posts that a label, of theirs or of a post that they show, says are not to be shown."""

    needs = ("visibility",)
    fails = "closed"  # what was not judged is not shown

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Obey the verdict that the hydrator visibility left."""
        return posts["visibility"] < Verdict.DROP

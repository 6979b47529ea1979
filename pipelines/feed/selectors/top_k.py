from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipelines.feed.stages import FeedQuery, Selector
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class TopK(Selector):
    """Orders posts by score, best first; ties keep their order, NaN comes last.

    Where the scorer dpp has put them in an order of its own, that one counts.
    """

    needs = ("score",)
    wants = ("dpp_place",)
    fails = "closed"
    num_posts: PositiveInt = 500  # a page is filled from these, however many its rules drop

    def select(self, query: FeedQuery, posts: Candidates) -> NDArray[np.int64]:
        """Sort stably and cut."""
        order = posts["dpp_place"] if "dpp_place" in posts else -posts["score"]
        return np.argsort(order, kind="stable")[: self.num_posts]

"""Who follows whom."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.feed.services import Graph
from serve.stores.lookup import Groups, column


class GraphStore:
    """Follows by follower. Blocks and mutes are in no table of the bundle yet: empty."""

    def __init__(self, follows: pa.Table) -> None:
        """Index `follows`: the columns of schema.FOLLOWS; no rows is a graph of strangers."""
        follows = follows.sort_by("followee_id")
        self._followed = Groups(
            column(follows, "follower_id", 0, np.int64), column(follows, "followee_id", 0, np.int64)
        )

    def of(self, user_id: int) -> Graph:
        """The viewer's side of the graph; empty for a viewer who follows nobody."""
        nobody = np.empty(0, np.int64)
        return Graph(followed=self._followed.of(user_id), blocked=nobody, muted=nobody)

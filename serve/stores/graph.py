"""Who follows, blocks and mutes whom."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.services import Graph
from pipelines.schema import ACTION_NAMES
from serve.live.relations import BLOCK, MUTE
from serve.stores.lookup import Groups, column
from serve.stores.profiles import ProfileStore


class GraphStore:
    """Follows in both directions, and whom viewers blocked or muted in the log.

    The log says when someone was blocked, not when that was taken back, and a profile
    holds a viewer's newest events only. Subscriptions and muted words are in no table of
    the bundle: empty.
    """

    def __init__(self, follows: pa.Table, profiles: ProfileStore) -> None:
        """Index `follows`: the columns of schema.FOLLOWS; no rows is a graph of strangers."""
        follower_id, followee_id = (
            column(follows, name, 0, np.int64) for name in ("follower_id", "followee_id")
        )
        by_followee, by_follower = np.argsort(followee_id), np.argsort(follower_id)
        self._followed = Groups(follower_id[by_followee], followee_id[by_followee])
        self._followers = Groups(followee_id[by_follower], follower_id[by_follower])
        self._profiles = profiles
        events = profiles.events()
        blocks = (events["did"] >> ACTION_NAMES.index(BLOCK) & 1 > 0) & (events["author_id"] > 0)
        self._blockers = Groups(events["author_id"][blocks], events["user_id"][blocks])

    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who follows, and who is followed; one of each for every follow. [n], [n]."""
        return self._followed.pairs()

    def followers(self, author_id: int) -> NDArray[np.int64]:
        """Who follows the author; empty for one whom nobody follows. Sorted."""
        return np.sort(self._followers.of(author_id))

    def of(self, user_id: int) -> Graph:
        """The viewer's side of the graph; empty for a viewer nobody has heard of."""
        followed, history = self._followed.of(user_id), self._profiles.history(user_id)
        return Graph(
            followed=followed,
            blocked=_whom(history, BLOCK),
            muted=_whom(history, MUTE),
            mutual=self.mutual(user_id, followed),
            blocked_by=np.unique(self._blockers.of(user_id)),
        )

    def mutual(self, user_id: int, followed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `followed` who follow the viewer."""
        return np.intersect1d(followed, self._followers.of(user_id))


def _whom(history: History | None, action: str) -> NDArray[np.int64]:
    """Authors of the posts to which the viewer did `action`, sorted."""
    if history is None:
        return np.empty(0, np.int64)
    done = history.did >> ACTION_NAMES.index(action) & 1 > 0
    return np.unique(history.author_id[done & (history.author_id > 0)])

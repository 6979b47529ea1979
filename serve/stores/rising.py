"""Which posts are taking off: what the last hours made of each showing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.encoding import HOUR_MS
from pipelines.feed.services import Hits
from pipelines.signals import PRIOR
from serve.stores.posts import PostStore

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Counts = Mapping[str, Ids]

_ACTS = ("num_likes", "num_replies", "num_reposts")
_EVERY_MS = 60_000  # counts are as of the last whole minute: one answer for all who ask in it


def velocity(now: Counts, before: Counts, hours: Floats) -> Floats:
    """Acts per showing and hour, drawn towards what all posts get; 0 where nothing was done.

    (a + m p) / (s + m) / hours, a acts and s showings of a post between `before` and `now`,
    p = Σa / Σs, m = signals.PRIOR showings.

    Args:
        now: num_views, num_likes, num_replies, num_reposts, -1 = not counted. int64 [N] each.
        before: the same at an earlier instant.
        hours: of the time between that each post was there, above 0. [N].
    """

    def since(name: str) -> Floats:
        gained = np.maximum(now[name], 0) - np.maximum(before[name], 0)
        return np.maximum(gained, 0).astype(np.float64)

    shown, acts = since("num_views"), sum((since(name) for name in _ACTS), np.zeros(len(hours)))
    overall = acts.sum() / max(shown.sum(), 1.0)
    rate = (acts + PRIOR * overall) / (shown + PRIOR) / hours
    return np.where(acts > 0, rate, 0.0)


class Rising:
    """The fastest posts, counted once a minute. Used by one event loop."""

    def __init__(
        self, posts: PostStore, engagement: Callable[[Ids, int], Mapping[str, NDArray]]
    ) -> None:
        """Take all posts, and what counts them: `Services.engagement` without the waiting."""
        self._posts, self._engagement = posts, engagement
        self._kept: tuple[tuple[int, float], Hits] | None = None

    def at(self, num_posts: int, at_ms: int, window_hours: float) -> Hits:
        """As `Services.rising`; equally fast posts by id.

        A post that is younger than the window was there for as long as it is old, but counts as
        an hour old at least; one of unknown age was there all the time.
        """
        key = at_ms // _EVERY_MS, window_hours
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._ordered(key[0] * _EVERY_MS, window_hours)
        hits = self._kept[1]
        return Hits(hits.post_id[:num_posts], hits.value[:num_posts])

    def _ordered(self, at_ms: int, window_hours: float) -> Hits:
        post_id = self._posts.ids()
        created_at_s = self._posts.facts(post_id)["created_at_s"]
        age_hours = np.nan_to_num((at_ms / 1000 - created_at_s) / 3600, nan=window_hours)
        hours = np.clip(age_hours, 1.0, max(window_hours, 1.0))
        earlier_ms = at_ms - int(window_hours * HOUR_MS)
        now, before = (self._engagement(post_id, instant) for instant in (at_ms, earlier_ms))
        value = velocity(now, before, hours)
        fast = np.flatnonzero(value > 0)
        order = fast[np.argsort(-value[fast], kind="stable")]  # ids are sorted
        return Hits(post_id[order], value[order])

"""What this process has shown lately, so that the next page shows something else."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray


class ServedStore:
    """The newest pages of the viewers seen last, in memory.

    Each replica knows only what it served itself and forgets on restart; the event
    log is the record that lasts.
    """

    def __init__(self, num_viewers: int, num_posts: int) -> None:
        """Remember at most `num_posts` posts for each of at most `num_viewers` viewers."""
        self._num_viewers = num_viewers
        self._num_posts = num_posts
        self._pages: OrderedDict[int, list[NDArray[np.int64]]] = OrderedDict()

    def add(self, user_id: int, post_id: NDArray[np.int64]) -> None:
        """Remember one page [n] that was just shown."""
        pages = self._pages.setdefault(user_id, [])
        self._pages.move_to_end(user_id)
        pages.append(post_id)
        while sum(map(len, pages)) > self._num_posts:
            pages.pop(0)
        if len(self._pages) > self._num_viewers:
            self._pages.popitem(last=False)

    def before(self, user_id: int, post_id: int | None = None) -> NDArray[np.int64]:
        """Posts shown to the viewer, sorted.

        Args:
            user_id: the viewer.
            post_id: leave out the newest page that shows this post and what came after
                it: what had been shown when that page was made. A post on no page
                leaves out nothing.
        """
        pages = self._pages.get(user_id, [])
        for newest in range(len(pages) - 1, -1, -1):
            if post_id is not None and post_id in pages[newest]:
                pages = pages[:newest]
                break
        return np.unique(np.concatenate([np.empty(0, np.int64), *pages]))

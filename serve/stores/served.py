"""What this process has shown lately, so that the next page shows something else."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Page:
    """Posts [n] served at one time, ms since 1970."""

    post_id: NDArray[np.int64]
    at_ms: int


class ServedStore:
    """The newest pages of the viewers seen last, in memory.

    Each replica knows only what it served itself and forgets on restart; the event
    log is the record that lasts.
    """

    def __init__(self, num_viewers: int, num_posts: int) -> None:
        """Remember at most `num_posts` posts for each of at most `num_viewers` viewers."""
        self._num_viewers = num_viewers
        self._num_posts = num_posts
        self._pages: OrderedDict[int, list[Page]] = OrderedDict()

    def add(self, user_id: int, post_id: NDArray[np.int64], at_ms: int) -> None:
        """Remember one page [n] that was just shown."""
        pages = self._pages.setdefault(user_id, [])
        self._pages.move_to_end(user_id)
        pages.append(Page(post_id, at_ms))
        while sum(len(page.post_id) for page in pages) > self._num_posts:
            pages.pop(0)
        if len(self._pages) > self._num_viewers:
            self._pages.popitem(last=False)

    def before(self, user_id: int, post_id: int | None = None) -> list[Page]:
        """Pages shown to the viewer, oldest first.

        Args:
            user_id: the viewer.
            post_id: leave out the newest page that shows this post and what came after
                it: what had been shown when that page was made. A post on no page
                leaves out nothing.
        """
        pages = self._pages.get(user_id, [])
        for newest in range(len(pages) - 1, -1, -1):
            if post_id is not None and post_id in pages[newest].post_id:
                return pages[:newest]
        return pages

    def shown_at_ms(self, user_id: int, post_id: int) -> int | None:
        """When the viewer was last shown the post; None if not, as far as is known here."""
        pages = self._pages.get(user_id, [])
        return next((page.at_ms for page in reversed(pages) if post_id in page.post_id), None)


def posts_of(pages: list[Page]) -> NDArray[np.int64]:
    """The posts of some pages in order; one on two pages twice. int64 [n]."""
    return np.concatenate([np.empty(0, np.int64), *(page.post_id for page in pages)])

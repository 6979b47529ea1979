"""Which posts belong to one conversation, and who wrote the posts that others point at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.stores.lookup import positions

Ids = NDArray[np.int64]


def authors_of(ids: Ids, post_id: Ids, author_id: Ids) -> Ids:
    """Author of each of `ids` [n] among posts sorted by `post_id` [N]; 0 = unknown. [n]."""
    place, known = positions(post_id, ids)
    return np.where(known, author_id[place], 0)


def conversations(post_id: Ids, reply_to: Ids) -> Ids:
    """First post of each post's chain of replies: that of itself where it is no reply.

    A chain that leaves the table ends at the id that it left by, so replies to one missing
    post share a conversation. Posts whose replies go round in a circle stay by themselves.

    Args:
        post_id: sorted. [N].
        reply_to: the post that each answers, 0 = none. [N].

    Returns:
        int64 [N].
    """
    here = np.arange(len(post_id))
    place, stored = positions(post_id, reply_to)
    up = np.where(stored & (reply_to > 0), place, here)
    # Each round makes every step twice as long, until all have arrived.
    for _ in range(len(post_id).bit_length()):
        up = up[up]
    arrived = ~(stored & (reply_to > 0))[up]
    root = np.where(reply_to[up] > 0, reply_to[up], post_id[up])
    return np.where(arrived, root, post_id)

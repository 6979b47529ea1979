"""Looking ids of posts and authors up in lists of ids."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.table import Candidates

# What a viewer sees of a post: the post, the one it repeats, the one it answers.
RELATED = ("post_id", "repost_of_post_id", "reply_to_post_id")


def any_in(posts: Candidates, columns: Iterable[str], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether any of `columns` of a post, 0 = none, is among `ids` [n], in any order. bool [C]."""
    found = np.zeros(len(posts), np.bool_)
    for name in columns if len(ids) else ():
        values = posts[name]
        if values.any():  # most logs have no replies or reposts
            found |= np.isin(values, ids) & (values > 0)
    return found

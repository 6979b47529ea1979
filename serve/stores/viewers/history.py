"""Engagements become a history, as if the log had told of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.features import History
from pipelines.schema import ACTION_NAMES, DWELL_TIME
from serve.stores.lookup import column


def history_of(user_id: int, engagements: pa.Table, after_ms: int, before_ms: int) -> History:
    """What the viewer did between two instants, both left out; oldest first, one entry a post.

    An entry is as old as the first action and on its surface; seconds add up. As in a log, that
    time was measured is no action: `did` has no bit for it.

    Args:
        user_id: the viewer.
        engagements: theirs, as `ViewerStore.engagements` gives them.
        after_ms: what is not newer is left out.
        before_ms: what is not older is left out.

    Returns:
        With author_id 0: a store of viewers knows no posts.
    """
    if not len(engagements):  # as for most viewers
        return History.empty(user_id)
    at_ms = column(engagements, "at_ms", 0, np.int64)
    engagements = engagements.filter(pa.array((at_ms > after_ms) & (at_ms < before_ms)))
    post_id, first, entry = np.unique(
        column(engagements, "post_id", 0, np.int64), return_index=True, return_inverse=True
    )
    bit = pc.index_in(engagements["action"], pa.array(ACTION_NAMES))
    bit = pc.fill_null(bit, DWELL_TIME).to_numpy()  # no action of today's: written by other code
    did = np.zeros(len(post_id), np.int64)
    np.bitwise_or.at(did, entry, np.where(bit == DWELL_TIME, 0, 1 << bit.astype(np.int64)))
    seconds = column(engagements, "dwell_s", np.nan)
    dwell_s = np.bincount(entry, np.nan_to_num(seconds), len(post_id))
    measured = np.bincount(entry, ~np.isnan(seconds), len(post_id)) > 0
    order = np.argsort(first)
    return History(
        user_id=user_id,
        post_id=post_id[order],
        author_id=np.zeros(len(post_id), np.int64),
        did=did[order],
        surface=column(engagements, "surface", 0, np.int16)[first[order]],
        dwell_s=np.where(measured, dwell_s, np.nan).astype(np.float32)[order],
        at_ms=column(engagements, "at_ms", 0, np.int64)[first[order]],
    )

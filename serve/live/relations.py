"""Whom viewers followed, blocked and muted while the feed was served, in this process's memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.live.messages import Happened

FOLLOW, BLOCK, MUTE = "follow_author", "block_author", "mute_author"
_RELATIONS = pa.array([FOLLOW, BLOCK, MUTE])
_Acts = dict[tuple[str, int], int]  # action and post -> when it was first done


class Relations:
    """A `View` of what viewers did about authors.

    Apart from the stores of viewers and no service, since a block protects: it must hold while
    such a store is down, and must not be pushed out by a few hundred likes. All that the journal
    keeps is here, and nothing takes a relation back: there is no action that does.
    """

    def __init__(self) -> None:
        """Nobody did anything yet."""
        self._of: dict[int, _Acts] = {}

    def apply(self, happened: Happened) -> None:
        """As `View`; the feed may read meanwhile."""
        rows = happened.engagements
        rows = rows.filter(pc.is_in(rows["action"], _RELATIONS))
        new: dict[int, _Acts] = {}
        names = ("user_id", "action", "post_id", "at_ms")
        columns = (rows[name].to_pylist() for name in names)
        for user_id, action, post_id, at_ms in zip(*columns, strict=True):
            acts = new.setdefault(user_id, dict(self._of.get(user_id, {})))
            acts[action, post_id] = min(at_ms, acts.get((action, post_id), at_ms))
        self._of.update(new)  # whole viewers at a time, so readers meet no half of one

    def posts(
        self, user_id: int, before_ms: int | None = None
    ) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
        """What the viewer did to which posts' authors: actions and post ids. [n], [n].

        Args:
            user_id: the viewer.
            before_ms: only what was done before; None = everything, also what a client's clock
                puts into the future.
        """
        acts = self._of.get(user_id, {})
        done = [act for act, at_ms in acts.items() if before_ms is None or at_ms < before_ms]
        return (
            np.array([action for action, _ in done], np.str_),
            np.array([post_id for _, post_id in done], np.int64),
        )

"""Facts about accounts by id."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.stores.lookup import column, positions


class UserStore:
    """All accounts of a bundle as columns in memory.

    An author is looked up here as an account: the log numbers both alike, or its authors are
    not among `users`.
    """

    def __init__(self, users: pa.Table) -> None:
        """Index `users`: the columns of schema.USERS; no rows is a feed of strangers."""
        users = users.sort_by("user_id")
        self._user_id = column(users, "user_id", 0, np.int64)
        unknown = np.int64(-1), np.nan  # the last row stands for whoever is not here
        self._num_followers = np.append(column(users, "num_followers", -1, np.int64), unknown[0])
        self._created_at_s = np.append(column(users, "created_at_ms", np.nan) / 1000, unknown[1])

    def facts(self, user_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """What is known of accounts [n]: the columns that `Services.users` promises."""
        place, known = positions(self._user_id, user_id)
        row = np.where(known, place, -1)
        return {
            "num_followers": self._num_followers[row],
            "created_at_s": self._created_at_s[row],
        }

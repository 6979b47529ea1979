"""What each viewer did, as of the end of the log that the bundle was made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.features import History
from serve.stores.lookup import column, positions

_FIELDS = ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms")


class ProfileStore:
    """Histories of all viewers as flat columns; one viewer is a slice, not a copy."""

    def __init__(self, profiles: pa.Table) -> None:
        """Index `profiles`: user_id and the history columns of schema.EXAMPLES."""
        profiles = profiles.sort_by("user_id").combine_chunks()
        self._user_id = column(profiles, "user_id", 0, np.int64)
        lists = {name: profiles[f"history_{name}"].combine_chunks() for name in _FIELDS}
        lengths = lists["post_id"].value_lengths().to_numpy(zero_copy_only=False)
        self._bounds = np.concatenate([[0], np.cumsum(lengths)])
        self._values: dict[str, Any] = {
            name: values.flatten().to_numpy(zero_copy_only=False) for name, values in lists.items()
        }

    def history(self, user_id: int) -> History | None:
        """What the viewer did, oldest first; None for a viewer who is not in the bundle."""
        place, known = positions(self._user_id, np.array([user_id]))
        if not known[0]:
            return None
        span = slice(*self._bounds[place[0] : place[0] + 2])
        return History(user_id, **{name: values[span] for name, values in self._values.items()})

    def events(self) -> dict[str, NDArray]:
        """All histories as columns: user_id, and the fields of History. [n] each."""
        return {"user_id": np.repeat(self._user_id, np.diff(self._bounds)), **self._values}

    def seen(self, user_id: int) -> NDArray[np.int64]:
        """Posts in the viewer's history, sorted; empty for an unknown viewer."""
        history = self.history(user_id)
        return np.unique(history.post_id) if history else np.empty(0, np.int64)

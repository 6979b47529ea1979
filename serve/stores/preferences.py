"""What viewers said they want: words they mute, authors they block, mute and subscribe to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from configs import near_miss
from pipelines.feed.services import Graph
from serve.stores.lookup import Groups, column, positions, table_of

# One row a viewer; each list may be left out, or be null.
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("muted_keywords", pa.list_(pa.string())),  # words or phrases
        pa.field("muted_author_ids", pa.list_(pa.int64())),
        pa.field("blocked_author_ids", pa.list_(pa.int64())),
        pa.field("subscribed_author_ids", pa.list_(pa.int64())),
    ]
)
_LISTS = SCHEMA.names[1:]


class PreferenceError(ValueError):
    """A table of preferences that cannot be used; the text says where and why."""


def _nobody() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Preferences:
    """What one viewer said; ids int64 [n], in any order."""

    muted_keywords: tuple[str, ...] = ()
    muted_author_ids: NDArray[np.int64] = field(default_factory=_nobody)
    blocked_author_ids: NDArray[np.int64] = field(default_factory=_nobody)
    subscribed_author_ids: NDArray[np.int64] = field(default_factory=_nobody)

    def added_to(self, graph: Graph) -> Graph:
        """`graph` and all this."""
        return replace(
            graph,
            blocked=np.union1d(graph.blocked, self.blocked_author_ids),
            muted=np.union1d(graph.muted, self.muted_author_ids),
            subscribed=np.union1d(graph.subscribed, self.subscribed_author_ids),
            muted_keywords=tuple(dict.fromkeys((*graph.muted_keywords, *self.muted_keywords))),
        )


_NOTHING = Preferences()


class PreferenceStore:
    """Preferences by viewer, in memory."""

    def __init__(self, preferences: pa.Table, place: str = "preferences") -> None:
        """Index `preferences`, the columns of SCHEMA; `place` is where they are from.

        Raises:
            PreferenceError: columns other than those, an id below 1, or a viewer there twice.
        """
        rows = _checked(preferences, place).sort_by("user_id").combine_chunks()
        self._user_id = column(rows, "user_id", 0, np.int64)
        blocked = pc.list_flatten(rows["blocked_author_ids"]).to_numpy()
        of = pc.list_parent_indices(rows["blocked_author_ids"]).to_numpy()
        self._blockers = Groups(blocked, self._user_id[of])
        self._lists = {name: rows[name].combine_chunks() for name in _LISTS}

    @classmethod
    def empty(cls) -> PreferenceStore:
        """Nobody said anything."""
        return cls(SCHEMA.empty_table())

    @classmethod
    def read(cls, path: str | Path) -> PreferenceStore:
        """Preferences of a file: Parquet, or JSON lines if its name ends in .jsonl.

        Raises:
            PreferenceError: as for the class, or the file cannot be read.
        """
        try:
            return cls(table_of(path, SCHEMA), str(path))
        except (OSError, pa.ArrowException) as error:
            raise PreferenceError(f"{path}: cannot read preferences: {error}") from error

    def blocked_by(self, user_id: int) -> NDArray[np.int64]:
        """Viewers who block the viewer, as an author."""
        return self._blockers.of(user_id)

    def of(self, user_id: int) -> Preferences:
        """The viewer's; nothing for one who said nothing."""
        place, known = positions(self._user_id, np.array([user_id]))
        if not known[0]:
            return _NOTHING
        lists = {name: lists[int(place[0])].as_py() or [] for name, lists in self._lists.items()}
        keywords = tuple(lists.pop("muted_keywords"))
        return Preferences(
            keywords, **{name: np.array(ids, np.int64) for name, ids in lists.items()}
        )


def _checked(preferences: pa.Table, place: str) -> pa.Table:
    names = preferences.schema.names
    for name in names:
        if name not in SCHEMA.names:
            raise PreferenceError(f"{place}: {name}: no such column{near_miss(name, SCHEMA.names)}")
    for name in _LISTS:
        if name not in names:
            nothing = pa.nulls(len(preferences), SCHEMA.field(name).type)
            preferences = preferences.append_column(name, nothing)
    try:
        preferences = preferences.select(SCHEMA.names).cast(SCHEMA)
    except (KeyError, pa.ArrowException, ValueError) as error:
        raise PreferenceError(f"{place}: expected the columns {SCHEMA.names}: {error}") from error
    for name in SCHEMA.names:
        values = preferences[name] if name == "user_id" else pc.list_flatten(preferences[name])
        if values.null_count:
            raise PreferenceError(f"{place}: column {name}: null in a list")
        if pa.types.is_integer(values.type) and pc.any(pc.less(values, 1)).as_py():
            raise PreferenceError(f"{place}: column {name}: ids are at least 1")
    counts = pc.value_counts(preferences["user_id"])
    for count in counts.filter(pc.greater(counts.field("counts"), 1)):
        raise PreferenceError(f"{place}: column user_id: {count['values']} is there twice")
    return preferences

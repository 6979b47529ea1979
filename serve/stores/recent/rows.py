"""Recent posts as columns: those that are written, and the rows that hold them. n posts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.stores.lookup import column
from serve.stores.recent.index import Ids, Mask

NEVER = -(2**62)  # before any time
_AT_LEAST_ONE = ("post_id", "author_id")
_THREADS = (
    *("repost_of_post_id", "repost_author_id", "reply_to_post_id", "reply_to_author_id"),
    "conversation_id",
)
_OR_ZERO = ("parent_id", "parent_author_id", "conversation_id")


@dataclass(frozen=True)
class _Posts:
    """What is known of posts; each array [n].

    Attributes:
        post_id: at least 1.
        author_id: at least 1.
        created_at_ms: when it was published; ms since 1970.
        parent_id: the post it answers or repeats, 0 = none.
        parent_author_id: who wrote that, 0 = none or unknown.
        conversation_id: the post that began its conversation, 0 = unknown.
        is_repost: whether it repeats its parent; if not, it answers it.
        has_video: has a video that is long enough to count.
    """

    post_id: Ids
    author_id: Ids
    created_at_ms: Ids
    parent_id: Ids
    parent_author_id: Ids
    conversation_id: Ids
    is_repost: Mask
    has_video: Mask


@dataclass(frozen=True)
class NewPosts(_Posts):
    """Posts as they are written.

    Raises:
        ValueError: lengths differ, an id is out of range, or a repost repeats nothing.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            dtype = np.bool_ if field.name in ("is_repost", "has_video") else np.int64
            values: NDArray = np.asarray(getattr(self, field.name), dtype)
            object.__setattr__(self, field.name, values)
            if values.shape != (len(self),):
                raise ValueError(
                    f"posts.{field.name}: shape {values.shape}, expected one value for each of "
                    f"{len(self)} post ids"
                )
        for name in (*_AT_LEAST_ONE, *_OR_ZERO):
            check_ids(f"posts.{name}", getattr(self, name), int(name in _AT_LEAST_ONE))
        groundless = np.flatnonzero(self.is_repost & (self.parent_id == 0))
        if len(groundless):
            at = groundless[0]
            raise ValueError(
                f"posts.parent_id[{at}]: 0, but post {self.post_id[at]} is a repost: "
                "expected the post it repeats"
            )

    def take(self, rows: NDArray) -> NewPosts:
        """Some of them."""
        return NewPosts(**{name: values[rows] for name, values in self.columns().items()})

    def columns(self) -> dict[str, NDArray]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return len(self.post_id)


def check_ids(name: str, ids: Ids, at_least: int = 1) -> None:
    """Raise ValueError, naming `name`, if an id is too small or `ids` is not [n]."""
    if ids.ndim != 1:
        raise ValueError(f"{name}: shape {ids.shape}, expected ids in one dimension")
    if len(ids) and ids.min() < at_least:
        at = np.flatnonzero(ids < at_least)[0]
        raise ValueError(f"{name}[{at}]: {ids[at]}, expected at least {at_least}")


@dataclass(frozen=True)
class Columns(_Posts):
    """Rows, and what became of each.

    Attributes:
        dead: deleted. The one reason why a post that is young enough is not there.
        marked_at_ms: when the deletion or restoration happened that decided that.
        marked_until_ms: until when that is remembered; at least as long as a post is young enough.
        parent_row: row of the parent, -1 = there is none. int32.
    """

    dead: Mask
    marked_at_ms: Ids
    marked_until_ms: Ids
    parent_row: NDArray[np.int32]

    @classmethod
    def of(cls, values: Mapping[str, NDArray], rows: NDArray, room: int = 0) -> Columns:
        """Copies of `rows` of each column, and after them zeros for `room` more."""
        copies: dict[str, Any] = {}
        for field in fields(cls):
            column = values[field.name]
            copies[field.name] = np.zeros(len(rows) + room, column.dtype)
            np.take(column, rows, out=copies[field.name][: len(rows)], mode="clip")
        return cls(**copies)

    @classmethod
    def empty(cls) -> Columns:
        """No rows."""
        flags = ("is_repost", "has_video", "dead")
        dtypes = dict.fromkeys(flags, np.bool_) | {"parent_row": np.int32}
        none: dict[str, Any] = {
            field.name: np.zeros(0, dtypes.get(field.name, np.int64)) for field in fields(cls)
        }
        return cls(**none)

    def values(self, num: int) -> dict[str, NDArray]:
        """The first `num` rows by name; views, not copies."""
        return {field.name: getattr(self, field.name)[:num] for field in fields(self)}

    def needed(self, now_ms: int, oldest_ms: int) -> Mask:
        """Which rows still say something: posts that are held, and marks that last."""
        return (self.created_at_ms >= oldest_ms) | (self.marked_until_ms >= now_ms)


def posts_of(
    table: pa.Table, facts: Mapping[str, NDArray], min_video_s: float
) -> tuple[NewPosts, int]:
    """Rows of schema.POSTS as new posts, and how many were left out: those of no author or time.

    Args:
        table: n posts.
        facts: what `Services.posts` says of them, for who wrote what they answer or repeat, and
            their conversations.
        min_video_s: a video that is shorter does not count as one.
    """
    dated = pc.and_(table["author_id"].is_valid(), table["created_at_ms"].is_valid())
    kept = dated.to_numpy(zero_copy_only=False)
    table, facts = table.filter(dated), {name: facts[name][kept] for name in _THREADS}
    is_repost = facts["repost_of_post_id"] > 0

    def of_parent(repost: str, reply: str) -> Ids:
        return np.where(is_repost, facts[repost], facts[reply])

    posts = NewPosts(
        post_id=column(table, "post_id", 0, np.int64),
        author_id=column(table, "author_id", 0, np.int64),
        created_at_ms=column(table, "created_at_ms", 0, np.int64),
        parent_id=of_parent("repost_of_post_id", "reply_to_post_id"),
        parent_author_id=of_parent("repost_author_id", "reply_to_author_id"),
        conversation_id=facts["conversation_id"],
        is_repost=is_repost,
        has_video=column(table, "duration_s", 0.0) >= min_video_s,
    )
    return posts, int((~kept).sum())

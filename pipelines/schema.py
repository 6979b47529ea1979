"""Tables, columns and viewer actions: each named once, with dtype, unit and null rule.

Everything that reads or writes a log speaks of these names. `ACTIONS` is the one
list of what a viewer can do with a post: its order is the order of the ranker's
outputs and of the bits in every `did` and `observed` mask.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Action:
    """Something a viewer can do with a post.

    Attributes:
        name: column name in the events table and key in every response.
        weight: value added to a post's score per unit of predicted probability,
            or per second for a continuous action. The default is the public
            For You stack's of August 2026.
        continuous: predicted as an amount in seconds, not as a probability.
    """

    name: str
    weight: float
    continuous: bool = False


ACTIONS: tuple[Action, ...] = (
    Action("favorite", weight=0.5),
    Action("reply", weight=5.0),
    Action("repost", weight=1.0),
    Action("photo_expand", weight=0.05),
    Action("click", weight=0.4),
    Action("profile_click", weight=0.0),
    Action("vqv", weight=0.05),  # video quality view: watched for long enough
    Action("share", weight=2.0),
    Action("share_via_dm", weight=5.0),
    Action("share_via_copy_link", weight=20.0),
    Action("dwell", weight=0.0),  # stayed on the post: yes or no
    Action("quote", weight=5.0),
    Action("quoted_click", weight=0.05),
    Action("follow_author", weight=4.0),
    Action("not_interested", weight=-43.2),
    Action("block_author", weight=-31.2),
    Action("mute_author", weight=-58.8),
    Action("report", weight=-234.0),  # large because rare: P is about 1e-4
    Action("dwell_time", weight=0.004, continuous=True),  # per second
)
ACTION_NAMES: tuple[str, ...] = tuple(action.name for action in ACTIONS)
DWELL_TIME = ACTION_NAMES.index("dwell_time")
# What is counted of posts, and the action that the column counts.
COUNTED = {
    "num_likes": "favorite",
    "num_replies": "reply",
    "num_reposts": "repost",
    "num_quotes": "quote",
}
MAX_ACTIONS = 63  # a set of actions is one int64 mask; the sign bit stays free


def extend_actions(extra: Sequence[Action]) -> tuple[Action, ...]:
    """`ACTIONS` followed by a reader's own, which keep their order.

    Raises:
        ValueError: a name that is taken, a continuous action (its amount would
            need a column of its own), or more than `MAX_ACTIONS` in all.
    """
    actions = (*ACTIONS, *extra)
    names = [action.name for action in actions]
    taken = sorted({name for name in names if names.count(name) > 1})
    if taken:
        raise ValueError(f"actions {taken}: named twice")
    if any(action.continuous for action in extra):
        raise ValueError("extra actions must be discrete; seconds spent go into dwell_s")
    if len(actions) > MAX_ACTIONS:
        raise ValueError(f"{len(actions)} actions: at most {MAX_ACTIONS} fit a mask")
    return actions


def action_weights(actions: Sequence[Action] = ACTIONS) -> NDArray[np.float64]:
    """Default weight of each action. float64 [A]."""
    return np.array([action.weight for action in actions])


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, what it holds, and whether it may be null."""

    name: str
    dtype: pa.DataType
    doc: str
    null: bool = False


@dataclass(frozen=True)
class TableSchema:
    """One table of the contract.

    Attributes:
        key: columns that name a row; two rows that share it but differ are an
            error, two equal rows are one. An all-null key names nothing.
        refs: column -> table whose key it must be found in, when that table is given.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    refs: tuple[tuple[str, str], ...] = ()

    @cached_property
    def arrow(self) -> pa.Schema:
        """Arrow schema in column order; nullability follows the null rules."""
        return pa.schema([pa.field(c.name, c.dtype, nullable=c.null) for c in self.columns])

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that a file must have."""
        return tuple(c.name for c in self.columns if not c.null)


def _id(name: str, doc: str, null: bool = False) -> Column:
    return Column(name, pa.int64(), f"{doc}; at least 1, since 0 is padding", null)


def _at(name: str, doc: str, null: bool = False) -> Column:
    return Column(name, pa.int64(), f"{doc}; ms since 1970-01-01 UTC", null)


def events_table(actions: Sequence[Action] = ACTIONS) -> TableSchema:
    """The log: one row for one post shown to one viewer, with what came of it.

    An action column that is null, or not in the file, was not observed by this
    log: nothing is learned from it. False means seen and not done.
    """
    return TableSchema(
        "events",
        key=("event_id",),
        columns=(
            Column("event_id", pa.string(), "name of the row in the log it came from", True),
            _id("user_id", "the viewer"),
            _id("post_id", "the post shown"),
            _at("shown_at_ms", "when it was shown"),
            Column("log_date", pa.date32(), "day the log filed the row under, its own time", True),
            Column("surface", pa.int16(), "product surface, 0 = unknown; 0 to 15", True),
            Column("position", pa.int16(), "place on the page, 0 = top", True),
            Column("request_id", pa.string(), "the feed request that showed it", True),
            Column("dwell_s", pa.float32(), "time spent on the post; seconds, >= 0", True),
            *(
                Column(action.name, pa.bool_(), "whether the viewer did this", True)
                for action in actions
                if not action.continuous
            ),
        ),
        refs=(("user_id", "users"), ("post_id", "posts")),
    )


EVENTS = events_table()
POSTS = TableSchema(
    "posts",
    key=("post_id",),
    columns=(
        _id("post_id", "the post"),
        _id("author_id", "who wrote it", null=True),
        _at("created_at_ms", "when it was published", null=True),
        Column("duration_s", pa.float32(), "length of its video; seconds, >= 0", True),
        Column("topic_ids", pa.list_(pa.int64()), "topics, coarse labels; each at least 1", True),
        Column("text", pa.string(), "title or body", True),
        Column("language", pa.string(), "BCP 47 tag", True),
        _id("reply_to_post_id", "the post it answers", null=True),
        _id("repost_of_post_id", "the post it repeats", null=True),
        _id("quote_of_post_id", "the post it quotes", null=True),
    ),
)
USERS = TableSchema(
    "users",
    key=("user_id",),
    columns=(
        _id("user_id", "the account"),
        _at("created_at_ms", "when it was registered", null=True),
        Column("num_followers", pa.int64(), "accounts that follow it, >= 0", True),
        Column("num_following", pa.int64(), "accounts it follows, >= 0", True),
        Column("language", pa.string(), "BCP 47 tag", True),
        Column("country", pa.string(), "ISO 3166 code", True),
        Column("attributes", pa.list_(pa.string()), "profile facts as name=value", True),
    ),
)
FOLLOWS = TableSchema(
    "follows",
    key=("follower_id", "followee_id"),
    columns=(
        _id("follower_id", "who follows"),
        _id("followee_id", "who is followed"),
        _at("created_at_ms", "since when", null=True),
    ),
    refs=(("follower_id", "users"),),
)
# What viewers did, told one action at a time while the feed is served; no model reads these two.
ENGAGEMENTS = TableSchema(
    "engagements",
    key=("user_id", "event_id"),
    columns=(
        Column(
            "event_id", pa.string(), "name of the engagement, given once by the viewer's client"
        ),
        _id("user_id", "the viewer"),
        _id("post_id", "the post"),
        _at("at_ms", "when it was done"),
        Column("action", pa.string(), "one of ACTIONS; dwell_time comes with dwell_s"),
        Column("dwell_s", pa.float32(), "time spent on the post; seconds, >= 0", True),
        Column("surface", pa.int16(), "product surface, 0 = unknown; 0 to 15", True),
        Column("request_id", pa.string(), "the feed request that showed the post", True),
    ),
)
DELETIONS = TableSchema(
    "deletions",
    key=("post_id", "deleted_at_ms"),
    columns=(_id("post_id", "the post"), _at("deleted_at_ms", "when it was taken away")),
)
# Watched before the log begins; the order is known, the times are not.
HISTORIES = TableSchema(
    "histories",
    key=("user_id",),
    columns=(
        _id("user_id", "the viewer"),
        _at("as_of_ms", "every entry is older than this"),
        Column("post_ids", pa.list_(pa.int64()), "posts, oldest first"),
        Column("did", pa.list_(pa.int64()), "action mask of each"),
    ),
    refs=(("user_id", "users"),),
)
SPLITS = ("train", "validate", "test")  # of a data set, oldest first
TABLES: dict[str, TableSchema] = {t.name: t for t in (EVENTS, POSTS, USERS, FOLLOWS, HISTORIES)}

# One training example: what a viewer had done, then the posts of one visit and what came of each.
# Inner lists of one side have equal lengths. `did` and `observed` are masks over ACTIONS; bit
# DWELL_TIME of `observed` says that dwell_s was measured.
EXAMPLES = pa.schema(
    [
        ("user_id", pa.int64()),
        ("at_ms", pa.int64()),  # when the first candidate was shown; history is strictly older
        ("history_post_id", pa.list_(pa.int64())),  # oldest first
        ("history_author_id", pa.list_(pa.int64())),  # 0 = unknown
        ("history_did", pa.list_(pa.int64())),
        ("history_surface", pa.list_(pa.int16())),
        ("history_dwell_s", pa.list_(pa.float32())),  # NaN = not measured
        ("history_at_ms", pa.list_(pa.int64())),  # 0 = unknown
        ("post_id", pa.list_(pa.int64())),
        ("author_id", pa.list_(pa.int64())),
        ("surface", pa.list_(pa.int16())),
        ("shown_at_ms", pa.list_(pa.int64())),
        ("did", pa.list_(pa.int64())),
        ("observed", pa.list_(pa.int64())),
        ("dwell_s", pa.list_(pa.float32())),  # NaN = not measured
    ]
)


def schema_spec(actions: Sequence[Action] = ACTIONS) -> dict[str, list[str]]:
    """What a model depends on: actions in order and each table's columns with types."""
    tables = {**TABLES, "events": events_table(actions)}
    spec = {name: [f"{c.name}: {c.dtype}" for c in t.columns] for name, t in tables.items()}
    spec["examples"] = [f"{field.name}: {field.type}" for field in EXAMPLES]
    spec["actions"] = [f"{a.name}{' (continuous)' if a.continuous else ''}" for a in actions]
    return spec


def schema_changes(theirs: dict[str, list[str]], ours: dict[str, list[str]]) -> list[str]:
    """What `schema_spec` says that differs: "table: - theirs", "table: + ours"."""
    return [
        f"{table}: {line}"
        for table in sorted(ours.keys() | theirs.keys())
        for line in difflib.ndiff(theirs.get(table, []), ours.get(table, []))
        if line[0] in "+-"
    ]


def schema_hash(spec: dict[str, list[str]]) -> str:
    """Short stable digest of `schema_spec`; equal iff the specs are equal."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]

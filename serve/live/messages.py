"""Messages of the journal: one event of the wire format each, and what views make of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import pyarrow as pa
from pydantic import ValidationError

from pipelines.schema import DELETIONS, ENGAGEMENTS, POSTS
from serve import api_events
from serve.api_events import DELETION

Topic = Literal["posts", "engagements"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
_TABLES = {
    "post": ("posts", POSTS.arrow),
    "deletion": ("deletions", DELETIONS.arrow),
    "engagement": ("engagements", ENGAGEMENTS.arrow),
}


@dataclass(frozen=True)
class Message:
    """One event as it is written down.

    Attributes:
        key: names it within its topic; of two messages with one key the first counts.
        about: the id whose messages stay in order: the post's, or for engagements the viewer's;
            0 = unknown.
        body: JSON of api_events.Event, with nothing left to default.
        place: where a reader found it: a name in its `position`, and what stands there once this
            message is read. So a message that is read again is told from a second copy of it.
    """

    topic: Topic
    key: str
    about: int
    body: bytes
    place: tuple[str, int] | None = field(default=None, compare=False)

    @property
    def name(self) -> tuple[str, str]:
        """What no other message has: viewers' clients choose keys, so a key alone may recur."""
        return self.topic, self.key


@dataclass(frozen=True)
class Happened:
    """Many events as columns, in the order in which they came.

    Of one post, all that was published came before all that was deleted: see `in_order`.

    Attributes:
        posts: columns of schema.POSTS; a post may be there twice.
        deletions: columns of schema.DELETIONS.
        engagements: columns of schema.ENGAGEMENTS; an event may be there twice.
    """

    posts: pa.Table
    deletions: pa.Table
    engagements: pa.Table

    def __len__(self) -> int:
        return len(self.posts) + len(self.deletions) + len(self.engagements)


class View(Protocol):
    """What follows the journal: one replica's memory, or a store that replicas share."""

    def apply(self, happened: Happened) -> None:
        """Take note of what happened; of what it knows already, none. Called by one thread.

        Raises:
            Exception: it could not; the same comes again.
        """


def message(event: api_events.Event, key: str | None = None) -> Message:
    """The message of a checked event that has its times; `key` in place of the event's own."""
    topic: Topic = "engagements" if event.kind == "engagement" else "posts"
    about = event.user_id if event.kind == "engagement" else event.post_id
    return Message(
        topic, key or event.key, about, event.model_dump_json(exclude_none=True).encode()
    )


def in_order(messages: Sequence[Message]) -> list[list[Message]]:
    """Parts, in order, in none of which a post is published after anything else was said of it."""
    parts: list[list[Message]] = []
    known: set[int] = set()  # posts that this part has spoken of
    alone = True  # what speaks of nobody knows which post
    for one in messages:
        about = one.about if one.topic == "posts" else None
        again = about in known and not one.key.startswith(DELETION)
        if alone or again or about == 0:
            parts.append([])
            known = set()
        parts[-1].append(one)
        alone = about == 0
        if about is not None:
            known.add(about)
    return parts


def happened(messages: Sequence[Message]) -> tuple[Happened, list[str | None]]:
    """Read messages, whoever wrote them.

    Returns:
        What happened, and for each message why it could not be read, None = it could.
    """
    rows: dict[str, list[dict]] = {kind: [] for kind in _TABLES}
    problems: list[str | None] = []
    for one in messages:
        try:
            event = api_events.EVENT.validate_json(one.body)
            columns = event.columns()
        except ValidationError as error:
            told = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            problems.append("; ".join(told))
        except ValueError as error:
            problems.append(str(error))
        else:
            rows[event.kind].append(columns)
            problems.append(None)
    tables = {
        name: pa.Table.from_pylist(rows[kind], schema) for kind, (name, schema) in _TABLES.items()
    }
    return Happened(**tables), problems

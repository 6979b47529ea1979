"""Messages to write, and ways to wait for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from serve import api_events
from serve.live.journal import JournalError, Reader
from serve.live.messages import Happened, Message, message

PATIENCE_S = 60.0  # a busy machine is no failure


def post(post_id: int, author_id: int = 1, at_ms: int = 1_000, text: str = "") -> Message:
    """A post was published."""
    return message(
        api_events.NewPost(
            kind="post", post_id=post_id, author_id=author_id, created_at_ms=at_ms, text=text
        )
    )


def deletion(post_id: int, at_ms: int = 2_000) -> Message:
    """A post was taken away."""
    return message(api_events.Deletion(kind="deletion", post_id=post_id, deleted_at_ms=at_ms))


def engagement(
    user_id: int, post_id: int, event_id: str | None = None, at_ms: int = 3_000
) -> Message:
    """A viewer liked a post."""
    return message(
        api_events.Engagement(
            kind="engagement",
            event_id=event_id,
            user_id=user_id,
            post_id=post_id,
            action="favorite",
            at_ms=at_ms,
        )
    )


def poison(key: str) -> Message:
    """What no version of the wire format can read."""
    return Message("engagements", key, 1, b"\xff no JSON")


def eventually(is_so: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came to be so"
        time.sleep(0.01)


def drain(reader: Reader, num: int) -> list[Message]:
    """Read until `num` messages came; more may come with the last."""
    found: list[Message] = []
    eventually(lambda: found.extend(reader.poll(100, 0.2)) or len(found) >= num)
    return found


def patiently(do: Callable[[], object]) -> None:
    """Try again while the journal cannot be written or read."""

    def done() -> bool:
        try:
            do()
        except JournalError:
            return False
        return True

    eventually(done)


class Seen:
    """A view that knows each engagement and post once, however often it is told.

    Attributes:
        told: names of all that it was told, in order, repeats included.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.batches = 0

    def apply(self, happened: Happened) -> None:
        self.batches += 1
        self.told += names(happened)


def names(happened: Happened) -> list[str]:
    """One name for each event: posts, deletions, engagements."""
    return [
        *(f"post/{i}" for i in happened.posts["post_id"].to_pylist()),
        *(f"deletion/{i}" for i in happened.deletions["post_id"].to_pylist()),
        *(f"{e['user_id']}/{e['event_id']}" for e in happened.engagements.to_pylist()),
    ]


def by_about(messages: Iterable[Message]) -> dict[tuple[str, int], list[str]]:
    """Keys in the order of reading, of each id."""
    found: dict[tuple[str, int], list[str]] = {}
    for one in messages:
        found.setdefault((one.topic, one.about), []).append(one.key)
    return found

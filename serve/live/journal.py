"""The journal: what happened, written once and read by all who need to know.

    POST /v1/events ──append──▶ journal ──▶ Follower of each replica ──▶ its views in memory
                                        ──▶ one reader of a group ──▶ stores that replicas share

The embedded one is a SQLite file, the other is Kafka. Both promise the same: what `append` returned
from is not lost; messages of one id are read in the order in which they were written; each is read
at least once, so whoever reads must not mind one that comes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from configs import near_miss
from serve.live.messages import TOPICS, Message, Topic


class JournalError(RuntimeError):
    """The journal cannot be written or read now; the text says which and why. Try again later."""


def check_topics(
    topics: Sequence[Topic], group: str | None, after: Mapping[str, int] | None
) -> None:
    """Refuse what `Journal.reader` cannot read.

    Raises:
        ValueError: as there.
    """
    unknown = [topic for topic in topics if topic not in TOPICS]
    if unknown:
        raise ValueError(f"{unknown[0]}: no such topic{near_miss(unknown[0], TOPICS)}")
    if not topics:
        raise ValueError(f"no topic to read (have: {', '.join(TOPICS)})")
    if group is not None and after is not None:
        raise ValueError(f"group {group!r}: it goes on from what it committed, not from a position")


def gone_on(after: Mapping[str, int], part: str) -> tuple[str, int | None]:
    """The name under which a part of a journal was read last, and how far; None = it was not."""
    names = [name for name in after if name.split("#")[0] == part]
    newest = max(names, key=_times_anew, default=part)
    return newest, after.get(newest)


def anew(name: str) -> str:
    """A new name for a part that ends before it was read up to.

    It is another in its place, as when a file comes from a backup or a topic was made again: what
    it holds is not what was read, though it lies where that lay.
    """
    return f"{name.split('#')[0]}#{_times_anew(name) + 1}"


def _times_anew(name: str) -> int:
    return int(name.partition("#")[2] or 0)


class Reader(Protocol):
    """One reader's way through the journal; used by one thread."""

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """The next messages, each with its place; none if none comes within `timeout_s`.

        Raises:
            JournalError: nothing can be read now; what was not given out comes later.
        """

    def commit(self) -> None:
        """Remember for the group that all polled so far is done with; without a group, nothing.

        Raises:
            JournalError: it could not be remembered, so some of it may be read again.
        """

    def lag(self) -> int:
        """Messages written, as of a moment ago, that were not polled yet. JournalError as above."""

    def position(self) -> Mapping[str, int]:
        """How far this reader came, for `Journal.reader`; holds whatever the journal likes."""

    def close(self) -> None:
        """Give back what is held."""


class Journal(Protocol):
    """Where what happened is written; used by many threads."""

    def append(self, messages: Sequence[Message]) -> list[bool]:
        """Write all of `messages`, or none; they last when this returns.

        Returns:
            Whether each is new, as far as is known: one whose key was written before, or stands
            earlier in `messages`, is written at most once more, and whoever reads must not mind.

        Raises:
            JournalError: nothing was promised; some may be written all the same.
        """

    def reader(
        self,
        topics: Sequence[Topic],
        group: str | None = None,
        after: Mapping[str, int] | None = None,
    ) -> Reader:
        """Begin to read.

        Args:
            topics: what to read of.
            group: readers of one group share the work and what was committed; None = this one
                reads everything.
            after: the `position` from which to go on; None = the oldest that is kept, likewise
                where the journal ends before it. A group goes on from what it committed last,
                and takes none.

        Raises:
            ValueError: no such topic, or a group with a position. A journal that cannot be read
                now shows itself at the first `poll`.
        """

    def identity(self) -> str:
        """Tells this journal from others, whoever opened it and when.

        Raises:
            JournalError: it cannot be asked now.
        """

    def close(self) -> None:
        """Write out what is under way, and give back what is held."""

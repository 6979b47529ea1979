"""A follower for tests, and what may fail beside it: a view, and the journal itself."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from serve.live.follower import Checkpoint, Follower, FollowerSettings
from serve.live.journal import JournalError, Reader
from serve.live.messages import Happened, Message, Topic, View
from serve.live.sqlite import SqliteJournal, SqliteReader
from tests.serve.live.happenings import Seen

QUICK = FollowerSettings(first_retry_s=0.001, last_retry_s=0.01, poll_timeout_s=0.02)


class Failing(Seen):
    """A view whose store is out while `out` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.out = threading.Event()
        self.out.set()
        self.tries = 0

    def apply(self, happened: Happened) -> None:
        self.tries += 1
        if self.out.is_set():
            raise ConnectionError("the store is out")
        super().apply(happened)


class Out:
    """A journal that cannot be read while `out` is set, and gives everything twice."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self.out = threading.Event()

    def append(self, messages: Sequence[Message]) -> list[bool]:
        return self._journal.append(messages)

    def reader(
        self,
        topics: Sequence[Topic],
        group: str | None = None,
        after: Mapping[str, int] | None = None,
    ) -> Reader:
        return _OutReader(self._journal.reader(topics, group, after), self.out)

    def identity(self) -> str:
        return self._journal.identity()

    def close(self) -> None:
        self._journal.close()


class _OutReader:
    def __init__(self, reader: SqliteReader, out: threading.Event) -> None:
        self._reader = reader
        self._out = out

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        if self._out.is_set():
            raise JournalError("the journal is out")
        return [m for m in self._reader.poll(max_messages, timeout_s) for _ in range(2)]

    def commit(self) -> None:
        self._reader.commit()

    def lag(self) -> int:
        if self._out.is_set():
            raise JournalError("the journal is out")
        return self._reader.lag()

    def position(self) -> Mapping[str, int]:
        return self._reader.position()

    def close(self) -> None:
        self._reader.close()


@contextlib.contextmanager
def following(
    journal: SqliteJournal | Out,
    letters: Path,
    *views: View,
    group: str | None = None,
    after: Mapping[str, int] | None = None,
    seen: Mapping | None = None,
    checkpoint: Checkpoint | None = None,
    **settings: float,
) -> Iterator[Follower]:
    """A follower that retries at once, closed at the end."""
    follower = Follower(
        journal,
        views,
        group=group,
        after=after,
        seen=seen,
        checkpoint=checkpoint,
        dead_letters=str(letters),
        settings=QUICK.model_copy(update=settings),
    )
    try:
        yield follower
    finally:
        follower.close()

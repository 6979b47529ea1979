"""The embedded journal: one SQLite file that the processes of one machine write and read."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from sqlite3 import Connection
from typing import NamedTuple

from serve.live.journal import JournalError, anew, check_topics, gone_on
from serve.live.messages import TOPICS, Message, Topic
from serve.live.sqlite_file import SqliteFile, SqliteSettings, transaction, trim

_log = logging.getLogger(__name__)

# Not ON CONFLICT, which uses up an offset: without gaps, offsets count messages.
_WRITE = """
INSERT INTO messages (topic, key, about, body, written_at_ms)
SELECT :topic, :key, :about, :body, :now_ms
WHERE NOT EXISTS (SELECT 1 FROM messages WHERE topic = :topic AND key = :key)
"""
_MOST_AT_ONCE = 10_000  # messages of one transaction
_TRIM_EVERY_S = 3600.0


class _Request(NamedTuple):
    messages: Sequence[Message]
    done: Future[list[bool]]


class SqliteJournal:
    """Writes what happened to a file; one thread commits what many callers wait for.

    Callers that come while the disk is busy share the next commit, so that eight of them
    wait for one or two flushes, not for eight. The file is opened, and made, at first use.
    """

    def __init__(self, settings: SqliteSettings) -> None:
        self._settings = settings
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._file = SqliteFile(settings)  # the thread's own
        self._trimmed_at_s = -_TRIM_EVERY_S

    def append(self, messages: Sequence[Message]) -> list[bool]:
        """As in Journal: what was written before is known exactly, and is not written again."""
        request = _Request(messages, Future())
        with self._starting:
            if self._closed:
                raise JournalError(f"{self._settings.path}: cannot write: the journal is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
                self._thread.start()
            self._requests.put(request)
        return request.done.result()

    def reader(
        self,
        topics: Sequence[Topic],
        group: str | None = None,
        after: Mapping[str, int] | None = None,
    ) -> SqliteReader:
        """As in Journal: one reader of a group reads at a time, the others stand by."""
        check_topics(topics, group, after)
        return SqliteReader(self._settings, topics, group, after or {})

    def identity(self) -> str:
        """As in Journal: what the file was named when it was made."""
        file = SqliteFile(self._settings)
        try:
            with file.use("ask for the name of"):
                return file.journal_id
        finally:
            file.close()

    def close(self) -> None:
        """As in Journal."""
        with self._starting:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._requests.put(None)
            thread.join()

    def _run(self) -> None:
        going = True
        while going:
            requests = []
            request = self._requests.get()
            while request is not None:
                requests.append(request)
                if sum(len(r.messages) for r in requests) >= _MOST_AT_ONCE:
                    break
                try:
                    request = self._requests.get_nowait()
                except queue.Empty:
                    break
            going = request is not None
            if requests:
                self._answer(requests)
                self._trim_when_due()
        self._file.close()

    def _answer(self, requests: Sequence[_Request]) -> None:
        """Write all requests at once, and tell each caller what became of its own."""
        try:
            news = iter(self._write([m for request in requests for m in request.messages]))
        except JournalError as error:
            for request in requests:
                request.done.set_exception(JournalError(*error.args))
        except Exception as error:  # a message that no file can hold is its own caller's alone
            if len(requests) == 1:
                requests[0].done.set_exception(error)
            else:
                for request in requests:
                    self._answer([request])
        else:
            for request in requests:
                request.done.set_result([next(news) for _ in request.messages])

    def _write(self, messages: Sequence[Message]) -> list[bool]:
        with self._file.use("write") as connection:
            now = {"now_ms": int(time.time() * 1000)}
            with transaction(connection):
                done = [connection.execute(_WRITE, vars(m) | now).rowcount for m in messages]
            return [num == 1 for num in done]

    def _trim_when_due(self) -> None:
        if time.monotonic() - self._trimmed_at_s < _TRIM_EVERY_S:
            return
        self._trimmed_at_s = time.monotonic()
        try:
            with self._file.use("trim") as connection:
                trim(connection, self._settings)
        except JournalError as error:
            _log.warning("%s; tried again within the hour", error)


class SqliteReader:
    """Reads in the order of writing; a group's readers take turns by a lease in the file."""

    def __init__(
        self,
        settings: SqliteSettings,
        topics: Sequence[Topic],
        group: str | None,
        after: Mapping[str, int],
    ) -> None:
        self._settings = settings
        self._topics = tuple(sorted(set(topics)))
        self._any = ", ".join("?" * len(self._topics))
        self._group = group
        self._after = after
        self._name = uuid.uuid4().hex
        self._file = SqliteFile(settings)
        self._journal_id = self._part = ""
        self._offset = 0  # of the newest message that was passed
        self._holds_until_s = 0.0

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """As in Reader."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            with self._use("read") as connection:
                found = self._next(connection, max_messages) if self._holds(connection) else []
            left_s = deadline_s - time.monotonic()
            if found or left_s <= 0:
                return found
            time.sleep(min(self._settings.poll_interval_s, left_s))

    def commit(self) -> None:
        """As in Reader."""
        if self._group is None or self._holds_until_s == 0.0:
            return
        until_s = time.time() + self._settings.lease_s
        with self._use("commit") as connection:
            kept = connection.execute(
                "UPDATE groups SET offset = ?, until_s = ? WHERE name = ? AND holder = ?",
                (self._offset, until_s, self._group, self._name),
            ).rowcount
        if not kept:
            self._holds_until_s = 0.0
            raise JournalError(
                f"{self._settings.path}: group {self._group!r} went to another reader, since this "
                f"one was silent for {self._settings.lease_s} s; what was not committed comes again"
            )
        self._holds_until_s = until_s

    def lag(self) -> int:
        """As in Reader; 0 while another reader of the group reads."""
        with self._use("read") as connection:
            if not self._holds(connection):
                return 0
            if set(self._topics) < set(TOPICS):
                sql = f"SELECT count(*) FROM messages WHERE offset > ? AND topic IN ({self._any})"
                return connection.execute(sql, (self._offset, *self._topics)).fetchone()[0]
            # Only the oldest are ever deleted, so nothing is missing between first and last.
            sql = "SELECT coalesce(min(offset), 1), coalesce(max(offset), 0) FROM messages"
            first, last = connection.execute(sql).fetchone()
            return max(0, last - max(self._offset, first - 1))

    def position(self) -> Mapping[str, int]:
        """As in Reader; it names the file, so that in another one reading begins at the start."""
        return {self._part: self._offset} if self._part else dict(self._after)

    def close(self) -> None:
        """As in Reader; the next of the group need not wait."""
        try:
            if self._holds_until_s:
                self._holds_until_s = 0.0
                with self._file.use("leave a group") as connection:
                    connection.execute(
                        "UPDATE groups SET holder = '', until_s = 0 WHERE holder = ?", (self._name,)
                    )
        except JournalError as error:
            _log.warning("%s; another reader of the group waits for the lease to end", error)
        finally:
            self._file.close()

    def _next(self, connection: Connection, max_messages: int) -> list[Message]:
        last = connection.execute("SELECT coalesce(max(offset), 0) FROM messages").fetchone()[0]
        if last < self._offset:
            self._begin_anew_if_cut(connection)
        if last <= self._offset:
            return []
        rows = connection.execute(
            "SELECT offset, topic, key, about, body FROM messages "
            f"WHERE offset > ? AND offset <= ? AND topic IN ({self._any}) ORDER BY offset LIMIT ?",
            (self._offset, last, *self._topics, max_messages),
        ).fetchall()
        self._offset = rows[-1][0] if len(rows) == max_messages else last
        return [
            Message(topic, key, about, body, (self._part, offset))
            for offset, topic, key, about, body in rows
        ]

    def _begin_anew_if_cut(self, connection: Connection) -> None:
        """Go back if the file never held what was read: it was put in the place of a later one."""
        sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages'"
        if connection.execute(sql).fetchone()[0] >= self._offset:
            return  # it did, and let go of it
        sql = "SELECT coalesce(max(offset), 0) FROM groups WHERE name = ?"
        self._part = anew(self._part)
        told = "%s: ends before %d, up to which it was read; read again from %d, as %s"
        offset = connection.execute(sql, (self._group,)).fetchone()[0]
        _log.warning(told, self._settings.path, self._offset, offset, self._part)
        self._offset, self._holds_until_s = offset, 0.0

    def _holds(self, connection: Connection) -> bool:
        """Whether this reader may read: one without a group always, else if it has the lease."""
        now_s = time.time()
        if self._group is None or now_s < self._holds_until_s - self._settings.lease_s / 2:
            return True
        sql = "SELECT offset, holder, until_s FROM groups WHERE name = ?"
        found = connection.execute(sql, (self._group,)).fetchone()
        if found and found[1] not in ("", self._name) and now_s < found[2]:
            self._holds_until_s = 0.0
            return False
        with transaction(connection):
            found = connection.execute(sql, (self._group,)).fetchone()
            offset, holder, until_s = found or (0, "", 0.0)
            if holder not in ("", self._name) and now_s < until_s:  # another was quicker
                self._holds_until_s = 0.0
                return False
            until_s = now_s + self._settings.lease_s
            connection.execute(
                "INSERT INTO groups (name, offset, holder, until_s) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, "
                "until_s = excluded.until_s",
                (self._group, offset, self._name, until_s),
            )
        if holder != self._name:
            self._offset = offset
        self._holds_until_s = until_s
        return True

    @contextmanager
    def _use(self, purpose: str) -> Iterator[Connection]:
        with self._file.use(purpose) as connection:
            if self._journal_id != self._file.journal_id:  # first use, or the file was replaced
                self._journal_id = self._file.journal_id
                self._part, offset = gone_on(self._after, self._journal_id)
                self._offset = offset or 0
                self._holds_until_s = 0.0
            yield connection

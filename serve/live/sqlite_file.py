"""The file of the embedded journal: its tables, how it is opened, and what grows too old."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from configs import Config
from serve.live.journal import JournalError

_log = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    about INTEGER NOT NULL,
    body BLOB NOT NULL,
    written_at_ms INTEGER NOT NULL,
    UNIQUE (topic, key)
);
CREATE TABLE IF NOT EXISTS groups (
    name TEXT PRIMARY KEY,
    offset INTEGER NOT NULL,
    holder TEXT NOT NULL,
    until_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS journal (id TEXT NOT NULL);
INSERT INTO journal SELECT lower(hex(randomblob(8))) WHERE NOT EXISTS (SELECT 1 FROM journal);
"""
_ROWS_AT_ONCE = 10_000  # deleted in one transaction


class SqliteSettings(Config):
    """Settings of the journal in one file, on a local disk: SQLite does not lock over networks."""

    kind: Literal["sqlite"] = "sqlite"
    path: str = "artifacts/live/journal.db"
    keep_days: PositiveFloat = 7.0  # older messages are deleted, read or not, and so are their keys
    busy_timeout_s: NonNegativeFloat = 5.0  # how long to wait for another process that writes
    poll_interval_s: PositiveFloat = 0.02  # between looks for what is new; a look takes ~30 us
    lease_s: PositiveFloat = 10.0  # a group's reader that is silent for so long is replaced


class SqliteFile:
    """One connection, opened at first use and again after an error; used by one thread at a time.

    Attributes:
        journal_id: names the file that is open; a new file has a new one. Empty = none was yet.
    """

    def __init__(self, settings: SqliteSettings) -> None:
        self._settings = settings
        self._connection: sqlite3.Connection | None = None
        self._opened: int | None = None  # inode
        self.journal_id = ""

    @contextmanager
    def use(self, purpose: str) -> Iterator[sqlite3.Connection]:
        """The connection, for the block.

        Raises:
            JournalError: the block, or opening, failed for what SQLite or the disk said; it
                names the file and the `purpose`.
        """
        try:
            if self._connection is not None and _inode(self._settings) != self._opened:
                self.close()  # the file was taken away: what is written to it would be lost
            if self._connection is None:
                self._connection = _connect(self._settings)
                self._opened = _inode(self._settings)
                found = self._connection.execute("SELECT id FROM journal").fetchone()
                self.journal_id = found[0]
            yield self._connection
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise JournalError(f"{self._settings.path}: cannot {purpose}: {error}") from error

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """What the block writes is in the file at its end, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def trim(connection: sqlite3.Connection, settings: SqliteSettings) -> None:
    """Delete what is too old, in steps between which others can write."""
    before_ms = int((time.time() - settings.keep_days * 86_400) * 1000)
    last, deleted = 0, _ROWS_AT_ONCE
    while deleted == _ROWS_AT_ONCE:
        rows = connection.execute(
            "DELETE FROM messages WHERE written_at_ms < ? AND offset IN "
            "(SELECT offset FROM messages ORDER BY offset LIMIT ?) RETURNING offset",
            (before_ms, _ROWS_AT_ONCE),
        ).fetchall()
        deleted = len(rows)
        last = max([last, *(row[0] for row in rows)])
    late = connection.execute("SELECT name FROM groups WHERE offset < ?", (last,)).fetchall()
    if late:
        _log.warning(
            "%s: messages older than %s days are deleted though groups %s had not committed them",
            settings.path,
            settings.keep_days,
            ", ".join(sorted(name for (name,) in late)),
        )


def _inode(settings: SqliteSettings) -> int | None:
    try:
        return os.stat(settings.path).st_ino
    except FileNotFoundError:
        return None


def _connect(settings: SqliteSettings) -> sqlite3.Connection:
    Path(settings.path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        settings.path,
        timeout=settings.busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,  # closed by another thread once its own has ended
    )
    try:
        _set_up(connection, settings)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, settings: SqliteSettings) -> None:
    deadline_s = time.monotonic() + settings.busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:  # SQLite itself does not wait for this lock
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise
            time.sleep(settings.poll_interval_s)
    connection.execute("PRAGMA synchronous = FULL")  # a commit returns when it is on disk
    with transaction(connection):
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)

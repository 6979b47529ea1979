"""The embedded store: one SQLite file that replicas of one machine share, or memory."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt

from pipelines.schema import ENGAGEMENTS
from serve.stores.viewers.store import Bounds, Page, ViewerStoreError, table_of

T = TypeVar("T")
_FORMAT = 1  # of the tables below
_COLUMNS = ", ".join(ENGAGEMENTS.arrow.names)
_CREATE = f"""
CREATE TABLE viewers (user_id INTEGER PRIMARY KEY, written_ms INTEGER NOT NULL);
CREATE INDEX viewers_by_age ON viewers (written_ms);
CREATE TABLE engagements (
  event_id TEXT NOT NULL, user_id INTEGER NOT NULL, post_id INTEGER NOT NULL,
  at_ms INTEGER NOT NULL, action TEXT NOT NULL, dwell_s REAL, surface INTEGER, request_id TEXT,
  PRIMARY KEY (user_id, event_id)) WITHOUT ROWID;
CREATE INDEX engagements_by_time ON engagements (user_id, at_ms, event_id);
CREATE TABLE pages (
  request_id TEXT NOT NULL, user_id INTEGER NOT NULL, surface INTEGER NOT NULL,
  at_ms INTEGER NOT NULL, post_id BLOB NOT NULL,
  PRIMARY KEY (user_id, request_id)) WITHOUT ROWID;
PRAGMA user_version = {_FORMAT};
"""
_ADD_ENGAGEMENT = f"INSERT OR IGNORE INTO engagements ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ENGAGEMENTS = f"SELECT {_COLUMNS} FROM engagements WHERE user_id = ? ORDER BY at_ms, event_id"
# The newest one that is too many is given up with all that are older.
_TRIM_ENGAGEMENTS = """
DELETE FROM engagements WHERE user_id = ?1 AND (at_ms, event_id) <= (
  SELECT at_ms, event_id FROM engagements WHERE user_id = ?1
  ORDER BY at_ms DESC, event_id DESC LIMIT 1 OFFSET ?2)
"""
_ADD_PAGE = """
INSERT OR IGNORE INTO pages (user_id, request_id, surface, at_ms, post_id) VALUES (?, ?, ?, ?, ?)
"""
_PAGES = """
SELECT request_id, surface, at_ms, post_id FROM pages WHERE user_id = ? ORDER BY at_ms, request_id
"""
_TRIM_PAGES = """
DELETE FROM pages WHERE user_id = ?1 AND request_id IN (
  SELECT request_id FROM (
    SELECT request_id, sum(length(post_id)) OVER (ORDER BY at_ms DESC, request_id DESC) AS num
    FROM pages WHERE user_id = ?1)
  WHERE num > 8 * ?2)
"""
_OLDEST_VIEWERS = """
SELECT user_id FROM viewers WHERE written_ms < ?1
UNION SELECT user_id FROM (SELECT user_id FROM viewers ORDER BY written_ms DESC LIMIT -1 OFFSET ?2)
"""


class SqliteSettings(Bounds):
    """The embedded store."""

    kind: Literal["sqlite"] = "sqlite"
    # A file on a disk of this machine, which its replicas share and which outlives them; None =
    # in the memory of this process, which others do not see and which ends with it.
    path: str | None = None
    num_viewers: PositiveInt = 10_000  # those written about last
    busy_timeout_ms: PositiveInt = 1_000  # how long a write waits for that of another replica


class SqliteViewers:
    """`ViewerStore` in SQLite; no call keeps the event loop from its work.

    Writes have a thread and a connection, reads others, so that no page waits for a write, be
    it a long one or one that waits for another replica's. In memory both share one.
    """

    def __init__(
        self,
        settings: SqliteSettings | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Open the file, which is made if needed, with its folder.

        Raises:
            ViewerStoreError: it cannot be opened, or holds something else.
        """
        self._settings = settings or SqliteSettings()
        self._now_ms = now_ms
        self.shared = self._settings.path is not None
        self._place = self._settings.path or "viewers in memory"
        with self._told():
            self._writing = _Thread(self._settings)
            self._reading = _Thread(self._settings) if self._settings.path else self._writing

    async def add_engagements(self, engagements: pa.Table) -> None:
        """As `ViewerStore`, in one transaction."""
        columns = [engagements[name].to_pylist() for name in ENGAGEMENTS.arrow.names]
        rows, viewers = list(zip(*columns, strict=True)), engagements["user_id"].unique()

        def work(database: sqlite3.Connection) -> None:
            database.executemany(_ADD_ENGAGEMENT, rows)
            for user_id in viewers.to_pylist():
                database.execute(_TRIM_ENGAGEMENTS, (user_id, self._settings.num_engagements))
                self._written(database, user_id)

        await self._write(work)

    async def engagements(self, user_id: int) -> pa.Table:
        """As `ViewerStore`."""

        def work(database: sqlite3.Connection) -> pa.Table:
            return table_of(database.execute(_ENGAGEMENTS, (user_id,)).fetchall())

        return await self._read(work)

    async def add_page(self, user_id: int, page: Page) -> None:
        """As `ViewerStore`."""
        posts = page.post_id.astype("<i8").tobytes()

        def work(database: sqlite3.Connection) -> None:
            row = (user_id, page.request_id, page.surface, page.at_ms, posts)
            database.execute(_ADD_PAGE, row)
            database.execute(_TRIM_PAGES, (user_id, self._settings.num_posts))
            self._written(database, user_id)

        await self._write(work)

    async def pages(self, user_id: int) -> list[Page]:
        """As `ViewerStore`."""

        def work(database: sqlite3.Connection) -> list[Page]:
            return [
                Page(request_id, surface, at_ms, np.frombuffer(posts, "<i8").astype(np.int64))
                for request_id, surface, at_ms, posts in database.execute(_PAGES, (user_id,))
            ]

        return await self._read(work)

    async def close(self) -> None:
        """As `ViewerStore`; what is in memory is gone."""
        for thread in (self._writing, self._reading):
            await asyncio.to_thread(thread.close)

    async def _write(self, work: Callable[[sqlite3.Connection], None]) -> None:
        def transaction(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            with database:  # commits, or rolls back
                work(database)

        with self._told():
            await self._writing.run(transaction)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._told():
            return await self._reading.run(work)

    def _written(self, database: sqlite3.Connection, user_id: int) -> None:
        """Take note that the viewer is a recent one; a new one may cost the oldest its place."""
        now_ms = self._now_ms()
        touch = "UPDATE viewers SET written_ms = max(written_ms, ?) WHERE user_id = ?"
        if database.execute(touch, (now_ms, user_id)).rowcount:
            return
        database.execute("INSERT INTO viewers VALUES (?, ?)", (user_id, now_ms))
        oldest_ms = now_ms - 1000 * self._settings.retention_s
        gone = database.execute(_OLDEST_VIEWERS, (oldest_ms, self._settings.num_viewers)).fetchall()
        for table in ("viewers", "engagements", "pages"):
            database.executemany(f"DELETE FROM {table} WHERE user_id = ?", gone)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ViewerStoreError(f"{self._place}: {error}") from error


class _Thread:
    """A connection and the one thread that works with it, call by call."""

    def __init__(self, settings: SqliteSettings) -> None:
        self._database = _connect(settings)
        self._thread = ThreadPoolExecutor(1, "viewers")

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            done = asyncio.get_running_loop().run_in_executor(self._thread, work, self._database)
        except RuntimeError:  # no thread takes work after `close`
            raise sqlite3.ProgrammingError("closed") from None
        return await done

    def close(self) -> None:
        self._thread.shutdown()
        self._database.close()


def _connect(settings: SqliteSettings) -> sqlite3.Connection:
    if settings.path:
        Path(settings.path).parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(
        settings.path or ":memory:",
        timeout=settings.busy_timeout_ms / 1000,
        isolation_level=None,  # transactions begin where the code says so
        check_same_thread=False,  # opened here, then used by one thread
    )
    try:
        database.execute("PRAGMA journal_mode = WAL")  # readers never wait for a writer
        database.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last moments
        database.execute("BEGIN IMMEDIATE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables:
            for statement in _CREATE.split(";"):
                database.execute(statement)
        elif version != _FORMAT:
            raise sqlite3.DatabaseError(
                f"holds tables of format {version}, expected {_FORMAT}; give another path"
            )
        database.execute("COMMIT")
    except sqlite3.Error:
        database.close()
        raise
    return database

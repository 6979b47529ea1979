"""Connections to PostgreSQL: few, with time-outs, and quick to fail while it is down."""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from configs import ConfigError
from serve.stores.vectors.index import VectorsError
from serve.stores.vectors.settings import PgVectorSettings

T = TypeVar("T")
Connection = psycopg.Connection[Any]
_SILENT_S = 1.0  # beyond its time-out a statement is given up, whatever the server does


class Connections:
    """Runs work on one of a few connections.

    After a failure work fails at once for `retry_after_s`, so that nobody waits for a server
    that is down; whoever comes then tries again. They are closed when nobody uses this any more.
    """

    def __init__(self, settings: PgVectorSettings) -> None:
        """Take the address from the environment; nothing is opened yet.

        Raises:
            ConfigError: the environment variable is missing.
        """
        dsn = os.environ.get(settings.dsn_env)
        if not dsn:
            raise ConfigError(
                f"vectors.pgvector.dsn_env: the environment variable {settings.dsn_env} is not "
                "set; it holds a connection string such as postgresql://user:password@host/name"
            )
        self._dsn, self._settings = dsn, settings
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._down_until_s, self._problem = 0.0, ""
        self._finalizer = weakref.finalize(self, _close_all, self._idle)

    def run(self, work: Callable[[Connection], T], timeout_s: float | None = None) -> T:
        """Do `work`, perhaps twice, each statement within `timeout_s`; None = as the settings say.

        Raises:
            VectorsError: it failed, or something failed just before.
        """
        if time.monotonic() < self._down_until_s:
            raise VectorsError(f"{self._problem} (not asked again for a moment)")
        try:
            return self._run(work, self._settings.timeout_s if timeout_s is None else timeout_s)
        except psycopg.Error as error:
            self._problem = f"PostgreSQL: {type(error).__name__}: {str(error).strip()}"
            self._down_until_s = time.monotonic() + self._settings.retry_after_s
            raise VectorsError(self._problem) from error

    def close(self) -> None:
        """Close those that are idle."""
        with self._lock:
            _close_all(self._idle)

    def _run(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._on(connection, work, timeout_s)
            except psycopg.errors.QueryCanceled:
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self.close()  # the server was started anew: all that are idle are as dead
        return self._on(self._connect(), work, timeout_s)

    def _on(self, connection: Connection, work: Callable[[Connection], T], timeout_s: float) -> T:
        """Do `work` once; the connection is kept if that went well."""
        watch = threading.Timer(timeout_s + _SILENT_S, _cut, (connection,))
        watch.daemon = True
        watch.start()
        try:
            if timeout_s != self._settings.timeout_s:
                _set(connection, statement_timeout=f"{int(1000 * timeout_s)}ms")
            result = work(connection)
        except BaseException:
            connection.close()
            raise
        finally:
            watch.cancel()
        with self._lock:
            keep = len(self._idle) < self._settings.num_connections
            if keep and timeout_s == self._settings.timeout_s and self._finalizer.alive:
                self._idle.append(connection)
                return result
        connection.close()
        return result

    def _connect(self) -> Connection:
        settings = self._settings
        connection = psycopg.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=None,  # a pooler in between may not keep prepared statements
            connect_timeout=settings.connect_timeout_s,
            application_name="rayfeed",
        )
        try:
            _set(
                connection,
                statement_timeout=f"{int(1000 * settings.timeout_s)}ms",
                **{
                    "hnsw.ef_search": str(settings.hnsw_ef_search),
                    "hnsw.iterative_scan": "strict_order",  # until there are as many as asked
                },
            )
        except BaseException:
            connection.close()
            raise
        return connection


def _set(connection: Connection, **values: str) -> None:
    for name, value in values.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def _cut(connection: Connection) -> None:
    """End a connection under a thread that waits for it, which then fails."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it has ended by itself


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()

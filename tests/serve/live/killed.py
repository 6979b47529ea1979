"""A process that applies what a journal holds to the store of viewers, killed before it commits.

`python -m tests.serve.live.killed FOLDER`: follows FOLDER/journal.db in a group.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from serve.live.follower import Follower
from serve.live.messages import Happened, View
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings
from serve.live.viewers import ViewerActions
from serve.stores.viewers.sqlite import SqliteSettings as ViewersInFile
from serve.stores.viewers.sqlite import SqliteViewers


class Killing:
    """A view that ends the process right after another has applied something."""

    def __init__(self, view: View) -> None:
        self._view = view

    def apply(self, happened: Happened) -> None:
        """As `View`, for the last time."""
        self._view.apply(happened)
        os.kill(os.getpid(), signal.SIGKILL)


def _viewers(folder: str) -> SqliteViewers:
    return SqliteViewers(ViewersInFile(path=f"{folder}/viewers.db"))


def num_engagements(folder: str) -> int:
    """How many of viewer 1 the store holds."""

    async def ask() -> int:
        viewers = _viewers(folder)
        try:
            return len(await viewers.engagements(1))
        finally:
            await viewers.close()

    return asyncio.run(ask())


def main(folder: str) -> None:
    """Follow until killed."""
    loop = asyncio.new_event_loop()
    journal = SqliteJournal(SqliteSettings(path=f"{folder}/journal.db", lease_s=0.1))
    view = Killing(ViewerActions(_viewers(folder), loop))
    Follower(journal, [view], group="g", dead_letters=f"{folder}/letters.jsonl")
    threading.Timer(60.0, os._exit, [3]).start()
    loop.run_forever()


if __name__ == "__main__":
    main(sys.argv[1])

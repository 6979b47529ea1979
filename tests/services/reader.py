"""A process that follows the journal in Kafka as one of a group, until it kills itself.

`python -m tests.services.reader BROKERS PREFIX DATABASE NUM`: counts likes in a SQLite file, and
dies by SIGKILL after NUM batches, when the last is counted and not committed. 0 = never.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections import Counter

from serve.live.follower import Follower, FollowerSettings
from serve.live.kafka import KafkaJournal, KafkaSettings
from serve.live.messages import Happened


class Likes:
    """A view that counts each engagement once, in a file that outlives the process."""

    def __init__(self, path: str, num_batches: int = 0) -> None:
        self._path = path
        self._left = num_batches
        with sqlite3.connect(path) as file:
            file.execute("CREATE TABLE IF NOT EXISTS known (event_id TEXT PRIMARY KEY)")
            file.execute("CREATE TABLE IF NOT EXISTS likes (post_id INTEGER)")
        file.close()

    def apply(self, happened: Happened) -> None:
        file = sqlite3.connect(self._path, timeout=30)
        with file:
            for row in happened.engagements.to_pylist():
                new = file.execute(
                    "INSERT INTO known VALUES (?) ON CONFLICT DO NOTHING",
                    (f"{row['user_id']}/{row['event_id']}",),
                ).rowcount
                if new:
                    file.execute("INSERT INTO likes VALUES (?)", (row["post_id"],))
        file.close()
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counts(self) -> Counter[int]:
        """Likes of each post."""
        file = sqlite3.connect(self._path)
        found = Counter(post_id for (post_id,) in file.execute("SELECT post_id FROM likes"))
        file.close()
        return found


def main(brokers: str, prefix: str, database: str, num_batches: str) -> None:
    """Follow until killed."""
    place = KafkaSettings(
        brokers=brokers, topic_prefix=prefix, num_partitions=3, session_timeout_s=6.0
    )
    Follower(
        KafkaJournal(place),
        [Likes(database, int(num_batches))],
        group="likes",
        dead_letters=f"{database}.dead",
        settings=FollowerSettings(max_messages=20),
    )
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A process that writes to a SQLite journal until it is killed or the disk refuses.

`python -m tests.serve.live.writer PATH MAX_BYTES`: prints the key of each message once it is
acknowledged. No file that it writes may grow past MAX_BYTES; 0 = no limit.
"""

from __future__ import annotations

import itertools
import resource
import sys
import threading

from serve.live.journal import JournalError
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings
from tests.serve.live.happenings import engagement


def main(path: str, max_bytes: int) -> None:
    """Write from four threads, since what is under way together must last together."""
    if max_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    journal = SqliteJournal(SqliteSettings(path=path))
    printing = threading.Lock()
    refused: list[str] = []

    def write(user_id: int) -> None:
        for n in itertools.count(1):
            request = [engagement(user_id, 2 * n), engagement(user_id, 2 * n + 1)]
            try:
                journal.append(request)
            except JournalError as error:
                refused.append(str(error))
                return
            with printing:
                print(*(m.key for m in request), sep="\n", flush=True)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"refused {refused[0]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""What is read from a file that people change while the feed is served."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_Seen = tuple[int, int, int]  # of a file: when it was written, its size, its number


class Watched(Generic[T]):
    """The last good reading of a file, read again when the file is another one.

    Whoever asks notices a change, at most every `every_s`; a thread reads it, so nobody waits. A
    file that cannot be read, or is gone, changes nothing until it can. Write the new one beside
    the old and rename it, so that no half of it is read.

    Attributes:
        problem: why the file as it is now is not in use; None if it is.
    """

    def __init__(self, path: str, read: Callable[[str], T], every_s: float = 1.0) -> None:
        """Read `path` at once.

        Raises:
            Exception: whatever `read` raises of the first reading; later it is a `problem`.
        """
        self._path, self._read, self._every_s = path, read, every_s
        self._seen: _Seen | None = _seen(path)
        self._now = read(path)
        self._due_s = time.monotonic() + every_s
        self._lock = threading.Lock()  # held by whoever looks at the file
        self.problem: str | None = None

    @property
    def now(self) -> T:
        """What is in use."""
        if time.monotonic() >= self._due_s and self._lock.acquire(blocking=False):
            self._due_s = time.monotonic() + self._every_s
            threading.Thread(target=self._look, name=f"read {self._path}", daemon=True).start()
        return self._now

    def _look(self) -> None:
        try:
            seen = _seen(self._path)
            if seen != self._seen:
                # Noted first: one that changes while it is read is read again.
                self._seen = seen
                self._now = self._read(self._path)
                self.problem = None
        except Exception as error:  # the next file may be a good one
            self.problem = f"still using the file before: {error}"
            if isinstance(error, FileNotFoundError):
                self._seen = None  # the same one may come back
        finally:
            self._lock.release()


class Fixed(Watched[T]):
    """The same, of something that no file holds."""

    def __init__(self, value: T) -> None:
        """`value` for ever."""
        self._now, self.problem = value, None

    @property
    def now(self) -> T:
        """What is in use."""
        return self._now


def watching(value: T | Watched[T]) -> Watched[T]:
    """What may be watched, as what is."""
    return value if isinstance(value, Watched) else Fixed(value)


def _seen(path: str) -> _Seen:
    found = os.stat(path)  # its errors name the path, as those of `read` should
    return found.st_mtime_ns, found.st_size, found.st_ino

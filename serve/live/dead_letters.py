"""Messages that nobody could read, kept where people find them."""

from __future__ import annotations

import base64
import json
import logging
import os
import time
from pathlib import Path

from serve.live.messages import Message

_MAX_KNOWN = 100_000
_log = logging.getLogger(__name__)


class DeadLetters:
    """A file of JSON lines: what could not be read, as it came, and why.

    A message that is in the file already is not written again, such as after a restart that
    reads the journal from its beginning.

    Attributes:
        num: messages that were put aside since the start, those in the file before included.
        problem: why the last one could not be written; None if it was.
    """

    def __init__(self, path: str | Path) -> None:
        """Nothing is made before the first message."""
        self._path = Path(path)
        self._known: set[tuple[str, str]] | None = None
        self._met: set[tuple[str, str]] = set()
        self.num = 0
        self.problem: str | None = None

    def put(self, message: Message, reason: str) -> None:
        """Write the message down; a disk that refuses is logged, and `problem` says so."""
        name = message.name
        if name in self._met:
            return
        if len(self._met) >= _MAX_KNOWN:
            self._met.clear()
        self._met.add(name)
        self.num += 1
        _log.error("%s %s: cannot be read, passed over: %s", *name, reason)
        try:
            self._write(message, reason)
        except OSError as error:
            self.problem = f"{self._path}: a dead letter was not written: {error}"
            _log.error("%s: %r", self.problem, message)
        else:
            self.problem = None

    def _write(self, message: Message, reason: str) -> None:
        if self._known is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._known = set(_names(self._path)) if self._path.exists() else set()
        if message.name in self._known:
            return
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        try:
            body = {"body": message.body.decode()}
        except UnicodeDecodeError:
            body = {"body_base64": base64.b64encode(message.body).decode()}
        line = {
            "passed_over_at_ms": int(time.time() * 1000),
            "topic": message.topic,
            "key": message.key,
            "about": message.about,
            "reason": reason,
            **body,
        }
        with self._path.open("ab") as file:
            if file.tell() and not _ends_a_line(self._path):  # what a crash left
                file.write(b"\n")
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._known.add(message.name)


def _names(path: Path) -> list[tuple[str, str]]:
    names = []
    for line in path.read_bytes().splitlines():
        try:
            known = json.loads(line)
            names.append((known["topic"], known["key"]))
        except (ValueError, KeyError, TypeError):  # half a line, of a crash
            continue
    return names


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

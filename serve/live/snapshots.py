"""What a replica knows of the journal, on disk, so that one that starts need not read it all.

A snapshot holds the journal's name and the position up to which it knows it; a replica takes the
newest that it can go on from, then reads on from there. Where there is none, it takes deletions,
follows, blocks and mutes from the newest of which these can be read: they outlive the journal.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat

from configs import Config
from serve.live import snapshot_file
from serve.live.journal import Journal, JournalError
from serve.live.snapshot_file import About, Frozen, Saved, Seen
from serve.stores.recent import RecentSettings

_log = logging.getLogger(__name__)
_KEPT = 2  # the newest so many, should the last one be damaged
_NAME = re.compile(r"(\d+)-[0-9a-f]{12}\.zip")  # a number that grows, whatever clocks do
_UNFINISHED = re.compile(_NAME.pattern + r"\.\d+\.partial")
_ABANDONED_S = 3600.0  # an unfinished one that is older is nobody's
_PROTECT = ("deletions", "relations")


class SnapshotSettings(Config):
    """Where snapshots are, and how often one is made."""

    directory: str | None = "artifacts/live/snapshots"  # None = nowhere
    every_s: PositiveFloat = 300.0  # by all replicas that share the folder, while things happen


@dataclass(frozen=True)
class Start:
    """From where a replica follows the journal.

    Attributes:
        told: that in words.
        after: as `Follower` takes it; None = all that the journal keeps.
        seen: likewise.
    """

    told: str
    after: Mapping[str, int] | None = None
    seen: Seen = field(default_factory=dict)


def start(
    settings: SnapshotSettings,
    journal: Journal,
    parts: Collection[str],
    restore: Callable[[Saved], str | None],
    recent: RecentSettings | None = None,
) -> Start:
    """Let something know what the newest snapshot says that can be used.

    Takes as long as reading it. What is passed over, and why, is logged and told.

    Args:
        settings: where they are.
        journal: what is followed then.
        parts: of `snapshot_file.PARTS`, those that are wanted, and `seen`.
        restore: takes what could be read, once; returns why the whole journal is to be read
            all the same, None = it need not.
        recent: how to keep recent posts; None = they are not wanted.
    """
    if settings.directory is None:
        return Start("the whole journal, as told to")
    problems: list[str] = []
    protects: dict[str, Any] = {}
    for path in _paths(Path(settings.directory)):
        saved, problem = snapshot_file.read(path, parts, recent)
        problem = problem or _of_another(path, saved, journal)
        if problem is None:
            return _begun(saved, restore)
        _log.error("%s", problem)
        problems.append(problem)
        protects = {n: saved.tables[n] for n in _PROTECT if n in saved.tables} | protects
    if protects:
        restore(Saved(protects))
    why = "; ".join(problems) or f"no snapshot in {settings.directory}"
    if protects:
        why += f"; {' and '.join(protects)} of snapshots hold"
    _log.warning("reads the whole journal: %s", why)
    return Start(f"the whole journal: {why}")


def _begun(saved: Saved, restore: Callable[[Saved], str | None]) -> Start:
    assert saved.about is not None
    at = datetime.fromtimestamp(saved.about.made_at_ms / 1000, UTC).isoformat(timespec="seconds")
    why = restore(saved)
    if why is None:
        seen = snapshot_file.seen_of(saved.tables["seen"])
        return Start(f"a snapshot of {at}", saved.about.position, seen)
    told = f"a snapshot of {at} and the whole journal, since {why}"
    _log.warning("begins with %s", told)
    return Start(told)


def _of_another(path: Path, saved: Saved, journal: Journal) -> str | None:
    """Why what a snapshot says of its journal is of no use here; None = it is."""
    assert saved.about is not None
    try:
        name = journal.identity()
    except JournalError as error:  # its positions say nothing to another one that is a file
        _log.warning("%s: taken for one of this journal, which is away: %s", path, error)
        return None
    if saved.about.journal == name:
        return None
    return f"{path}: of journal {saved.about.journal}, and this is {name}"


class Snapshots:
    """Makes snapshots in the background.

    Attributes:
        problem: why the last one could not be written, None = it was.
    """

    def __init__(
        self, settings: SnapshotSettings, freeze: Callable[[], Frozen], journal: Journal
    ) -> None:
        """Nothing is made yet.

        Args:
            settings: where and how often.
            freeze: what is to be kept, as it is now.
            journal: what that is of.
        """
        self._folder = None if settings.directory is None else Path(settings.directory)
        self._every_s = settings.every_s
        self._freeze = freeze
        self._journal = journal
        self._looked_at_s = 0.0
        self._written: Mapping[str, int] = {}  # position of the last
        self._writing: threading.Thread | None = None
        self.problem: str | None = None

    def checkpoint(self, position: Mapping[str, int], seen: Mapping[Any, Any]) -> None:
        """As `follower.Checkpoint`: make a snapshot if one is due, on a thread of its own."""
        now_s = time.monotonic()
        if self._folder is None or now_s - self._looked_at_s < min(1.0, self._every_s):
            return
        self._looked_at_s = now_s
        busy = self._writing is not None and self._writing.is_alive()
        if busy or position == self._written or not self._due(self._folder):
            return
        frozen, position, seen = self._freeze(), dict(position), dict(seen)
        self._writing = threading.Thread(
            target=self._write, args=(self._folder, frozen, position, seen), name="snapshot"
        )
        self._writing.start()

    def close(self) -> None:
        """Wait for one that is being made."""
        if self._writing is not None:
            self._writing.join()

    def _due(self, folder: Path) -> bool:
        """Whether none was made lately; one from the future was made when a clock was wrong."""
        ages_s = [abs(time.time() - at_s) for at_s in map(_written_at_s, _paths(folder))]
        return min(ages_s, default=self._every_s) >= self._every_s

    def _write(self, folder: Path, frozen: Frozen, position: dict[str, int], seen: Seen) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            about = About(
                journal=self._journal.identity(),
                position=position,
                made_at_ms=time.time_ns() // 1_000_000,
                counted_since_ms=frozen.counted_since_ms,
                newest_ms=frozen.newest_ms,
            )
            number = 1 + max(map(_number, _paths(folder)), default=0)
            name = f"{number:013d}-{uuid.uuid4().hex[:12]}.zip"
            snapshot_file.write(folder / name, about, frozen, seen)
            for old in (*_paths(folder)[_KEPT:], *_abandoned(folder)):
                old.unlink(missing_ok=True)
        except Exception as error:  # the next one may work; the journal is there all the same
            self.problem = f"{folder}: no snapshot could be made: {error}"
            _log.exception("%s", self.problem)
        else:
            self.problem, self._written = None, position


def _paths(folder: Path) -> list[Path]:
    """Snapshots in the folder, newest first; what else is there is not ours."""
    found = [path for path in folder.glob("*.zip") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (_number(path), path.name), reverse=True)


def _number(path: Path) -> int:
    return int(path.name.split("-")[0])


def _abandoned(folder: Path) -> list[Path]:
    """What a process left that was killed while it wrote."""
    found = [path for path in folder.glob("*.partial") if _UNFINISHED.fullmatch(path.name)]
    return [path for path in found if abs(time.time() - _written_at_s(path)) > _ABANDONED_S]


def _written_at_s(path: Path) -> float:
    """When the file was last written to; seconds since 1970, 0 = it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0

"""What a replica knows of the journal, on disk, so that one that starts need not read it all.

A snapshot is one file, whole or not there at all, with a check sum of each part. It holds the
journal's name and the position up to which it knows it; a replica takes the newest that it can
read, then reads on from there. So deletions, follows, blocks and mutes outlive the journal, too.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import PositiveFloat

from configs import Config
from pipelines.schema import POSTS
from pipelines.whole import new_file
from serve.live import counts, deletions, relations
from serve.live.counts import COUNTED
from serve.live.journal import Journal, JournalError
from serve.live.state import Frozen, LiveState
from serve.stores.recent import RecentPosts

_log = logging.getLogger(__name__)
_FORMAT = 1
_KEPT = 2  # the newest so many, should the last one be damaged
_SCHEMAS = {
    "posts": POSTS.arrow,
    "deletions": deletions.SCHEMA,
    "relations": relations.SCHEMA,
    "counts": counts.SCHEMA,
}
_SEEN = pa.schema(
    [("topic", pa.string()), ("key", pa.string()), ("at", pa.string()), ("offset", pa.int64())]
)
Seen = dict[tuple[str, str], tuple[str, int] | None]


class SnapshotSettings(Config):
    """Where snapshots are, and how often one is made."""

    directory: str | None = "artifacts/live/snapshots"  # None = nowhere
    every_s: PositiveFloat = 300.0  # by all replicas that share the folder, while things happen


class SnapshotError(ValueError):
    """A snapshot that cannot be used; the text says which and why."""


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


class Snapshots:
    """Makes snapshots of `state` in the background, and starts from the last one.

    Attributes:
        problem: why the last one could not be written, None = it was.
    """

    def __init__(self, settings: SnapshotSettings, state: LiveState, journal: Journal) -> None:
        """Nothing is read or made yet."""
        self._folder = None if settings.directory is None else Path(settings.directory)
        self._every_s = settings.every_s
        self._state = state
        self._journal = journal
        self._looked_at_s = 0.0
        self._written: Mapping[str, int] = {}  # position of the last
        self._writing: threading.Thread | None = None
        self.problem: str | None = None

    def start(self, as_of_ms: int) -> Start:
        """Restore the state from the newest snapshot that can be used, before the first bundle.

        Takes as long as reading it. What is passed over, and why, is logged and told.

        Args:
            as_of_ms: the newest event that the bundle knows.
        """
        if self._folder is None:
            return Start("the whole journal, as told to")
        problems = []
        for path in self._paths():
            try:
                return self._start_from(path, as_of_ms)
            except SnapshotError as error:
                _log.error("%s", error)
                problems.append(str(error))
        why = "; ".join(problems) or f"no snapshot in {self._folder}"
        _log.warning("reads the whole journal: %s", why)
        return Start(f"the whole journal: {why}")

    def checkpoint(self, position: Mapping[str, int], seen: Mapping[Any, Any]) -> None:
        """As `follower.Checkpoint`: make a snapshot if one is due, on a thread of its own."""
        now_s = time.monotonic()
        if self._folder is None or now_s - self._looked_at_s < min(1.0, self._every_s):
            return
        self._looked_at_s = now_s
        busy = self._writing is not None and self._writing.is_alive()
        if busy or position == self._written or not self._due():
            return
        frozen, position, seen = self._state.freeze(), dict(position), dict(seen)
        self._writing = threading.Thread(
            target=self._write, args=(self._folder, frozen, position, seen), name="snapshot"
        )
        self._writing.start()

    def close(self) -> None:
        """Wait for one that is being made."""
        if self._writing is not None:
            self._writing.join()

    def _paths(self) -> list[Path]:
        """Newest first."""
        assert self._folder is not None
        return sorted(self._folder.glob("*.zip"), key=lambda path: path.name, reverse=True)

    def _due(self) -> bool:
        newest_ms = max((int(path.name.split("-")[0]) for path in self._paths()), default=0)
        return time.time() - newest_ms / 1000 >= self._every_s

    def _start_from(self, path: Path, as_of_ms: int) -> Start:
        about, frozen, seen, recent = _read(path, self._state.recent)
        try:
            journal = self._journal.identity()
        except JournalError as error:  # its positions say nothing to another one that is a file
            _log.warning("%s: taken for one of this journal, which is away: %s", path, error)
            journal = about["journal"]
        if about["journal"] != journal:
            raise SnapshotError(f"{path}: of journal {about['journal']}, and this is {journal}")
        at = datetime.fromtimestamp(about["made_at_ms"] / 1000, UTC).isoformat(timespec="seconds")
        if self._state.restore(frozen, recent, as_of_ms):
            return Start(f"a snapshot of {at}", about["position"], seen)
        told = f"a snapshot of {at} and the whole journal, since it counts later than the bundle"
        _log.warning("begins with %s", told)
        return Start(told)

    def _write(self, folder: Path, frozen: Frozen, position: Mapping[str, int], seen: Seen) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            made_at_ms = time.time_ns() // 1_000_000
            about = {
                "format": _FORMAT,
                "journal": self._journal.identity(),
                "position": position,
                "made_at_ms": made_at_ms,
                "counted": list(COUNTED.values()),
                "counted_since_ms": frozen.counted_since_ms,
                "newest_ms": frozen.newest_ms,
            }
            name = f"{made_at_ms:013d}-{uuid.uuid4().hex[:12]}.zip"
            with new_file(folder / name, durable=True) as file, ZipFile(file, "w") as parts:
                parts.writestr("about.json", json.dumps(about))
                for part, table in (*frozen.tables.items(), ("seen", _table_of(seen))):
                    with parts.open(f"{part}.parquet", "w", force_zip64=True) as into:
                        pq.write_table(table, into)
                with parts.open("recent.npz", "w", force_zip64=True) as into:
                    frozen.recent(into)
            for old in self._paths()[_KEPT:]:
                old.unlink(missing_ok=True)
        except Exception as error:  # the next one may work; the journal is there all the same
            self.problem = f"{folder}: no snapshot could be made: {error}"
            _log.exception("%s", self.problem)
        else:
            self.problem, self._written = None, position


def _read(path: Path, like: RecentPosts) -> tuple[dict[str, Any], Frozen, Seen, RecentPosts]:
    """What `path` holds.

    Raises:
        SnapshotError: it is damaged, or of another format.
    """
    try:
        with ZipFile(path) as parts:
            about = json.loads(parts.read("about.json"))
            if about["format"] != _FORMAT or about["counted"] != list(COUNTED.values()):
                raise SnapshotError(f"{path}: of another version of this program")
            tables = {
                name: pq.read_table(pa.BufferReader(parts.read(f"{name}.parquet"))).cast(schema)
                for name, schema in _SCHEMAS.items()
                if name != "posts" or "posts.parquet" in parts.namelist()
            }
            seen = pq.read_table(pa.BufferReader(parts.read("seen.parquet"))).cast(_SEEN)
            recent = RecentPosts.load(io.BytesIO(parts.read("recent.npz")), like.settings)
    except SnapshotError:
        raise
    except (OSError, BadZipFile, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise SnapshotError(f"{path}: damaged: {error}") from error
    frozen = Frozen(tables, lambda _: None, about["counted_since_ms"], about["newest_ms"])
    return about, frozen, _seen_of(seen), recent


def _table_of(seen: Seen) -> pa.Table:
    places = [place or (None, None) for place in seen.values()]
    columns: list[list[Any]] = [[topic for topic, _ in seen], [key for _, key in seen]]
    columns += [[at for at, _ in places], [offset for _, offset in places]]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, _SEEN, strict=True)], schema=_SEEN
    )


def _seen_of(table: pa.Table) -> Seen:
    topic, key, at, offset = (table[name].to_pylist() for name in _SEEN.names)
    names, places = zip(topic, key, strict=True), zip(at, offset, strict=True)
    return {
        name: None if place[0] is None else place for name, place in zip(names, places, strict=True)
    }

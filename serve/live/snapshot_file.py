"""The file of a snapshot: parts that each have a check sum, and that can be read each by itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq

from configs import Config
from pipelines.schema import COUNTED
from pipelines.whole import new_file
from serve.live import counts, deletions, kept_posts, relations
from serve.stores.recent import RecentPosts, RecentSettings

_FORMAT = 2
_ABOUT, _RECENT = "about.json", "recent.npz"
_SEEN = pa.schema(
    [("topic", pa.string()), ("key", pa.string()), ("at", pa.string()), ("offset", pa.int64())]
)
PARTS = {
    "posts": kept_posts.SCHEMA,
    "deletions": deletions.SCHEMA,
    "relations": relations.SCHEMA,
    "counts": counts.SCHEMA,
    "seen": _SEEN,
}
Seen = dict[tuple[str, str], tuple[str, int] | None]


class About(Config):
    """What a snapshot says of itself.

    Attributes:
        journal: what it is of.
        position: up to where, as `Journal.reader` takes it.
        made_at_ms: when it was made; ms since 1970.
        counted_since_ms: from when on counts have everything.
        newest_ms: of what happened, the latest.
    """

    format: int = _FORMAT
    counted: tuple[str, ...] = tuple(COUNTED.values())
    journal: str
    position: dict[str, int]
    made_at_ms: int
    counted_since_ms: int
    newest_ms: int


@dataclass(frozen=True)
class Frozen:
    """A `LiveState` at one moment.

    Attributes:
        tables: makes by name: posts, deletions, relations, counts.
        recent: writes recent posts to a file, for `RecentPosts.load`.
        counted_since_ms, newest_ms: as in `About`.
    """

    tables: Mapping[str, Callable[[], pa.Table]]
    recent: Callable[[IO[bytes]], None]
    counted_since_ms: int
    newest_ms: int


@dataclass(frozen=True)
class Saved:
    """What could be read of a snapshot.

    Attributes:
        tables: by name.
        about: None = it is not one to go on from.
        recent: None = it was not asked for, or likewise.
    """

    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    about: About | None = None
    recent: RecentPosts | None = None


def write(path: Path, about: About, frozen: Frozen, seen: Seen) -> None:
    """Make the file, whole and on disk, or not at all."""
    tables = {**frozen.tables, "seen": lambda: _table_of(seen)}
    with new_file(path, durable=True) as file, ZipFile(file, "w") as parts:
        parts.writestr(_ABOUT, about.model_dump_json())
        for name in PARTS:
            with parts.open(f"{name}.parquet", "w", force_zip64=True) as into:
                pq.write_table(tables[name](), into)
        with parts.open(_RECENT, "w", force_zip64=True) as into:
            frozen.recent(into)


def read(
    path: Path, names: Collection[str], recent: RecentSettings | None
) -> tuple[Saved, str | None]:
    """What the file holds, and why that is not all; None = it is.

    Args:
        path: a file that anything may have happened to.
        names: of PARTS, those to read.
        recent: how to keep recent posts; None = they are not read.
    """
    problems: list[str] = []
    about: About | None = None
    tables: dict[str, pa.Table] = {}
    found: dict[str, Any] = {}

    def part(name: str, use: Callable[[bytes], Any]) -> Any:
        try:
            return use(parts.read(name))
        except Exception as error:  # what was altered may raise anything
            problems.append(f"{name}: {error or repr(error)}")
            return None

    try:
        with ZipFile(path) as parts:
            about = part(_ABOUT, _about)
            for name in names:
                table = part(f"{name}.parquet", partial(_table, schema=PARTS[name]))
                if table is not None:
                    tables[name] = table
            if recent is not None:
                found["recent"] = part(
                    _RECENT, lambda body: RecentPosts.load(io.BytesIO(body), recent)
                )
    except Exception as error:
        problems.append(str(error) or repr(error))
    if about and (about.format != _FORMAT or about.counted != tuple(COUNTED.values())):
        return Saved(tables), f"{path}: of another version of this program"
    if problems:
        return Saved(tables), f"{path}: damaged: {'; '.join(problems)}"
    return Saved(tables, about, **found), None


def _about(body: bytes) -> About:
    return About.model_validate_json(body)


def _table(body: bytes, schema: pa.Schema) -> pa.Table:
    return pq.read_table(pa.BufferReader(body)).cast(schema)


def _table_of(seen: Seen) -> pa.Table:
    places = [place or (None, None) for place in seen.values()]
    columns: list[list[Any]] = [[topic for topic, _ in seen], [key for _, key in seen]]
    columns += [[at for at, _ in places], [offset for _, offset in places]]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, _SEEN, strict=True)], schema=_SEEN
    )


def seen_of(table: pa.Table) -> Seen:
    """Names of messages, and where each lies."""
    topic, key, at, offset = (table[name].to_pylist() for name in _SEEN.names)
    names, places = zip(topic, key, strict=True), zip(at, offset, strict=True)
    return {
        name: None if place[0] is None else place for name, place in zip(names, places, strict=True)
    }

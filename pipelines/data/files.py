"""Finds the files of a table and streams Parquet, from disk or any fsspec URL."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.data.reader import Batch, Fragment, InputError, MissingInputError

BATCH_ROWS = 131_072  # Parquet rows read at a time
PARQUET, JSON_LINES = (".parquet",), (".jsonl", ".ndjson", ".json")


def find_files(url: str, advice: str, may_be_empty: bool = False) -> list[str]:
    """Files of a file, folder or glob, sorted; names that begin with `_` or `.` are skipped.

    A folder that the glob matches stands for all files below it, as a given folder does.

    Raises:
        MissingInputError: nothing is there; `advice` says what to do about it. A folder that is
            there and holds nothing is no error if it `may_be_empty`.
        InputError: a URL that cannot be opened here.
    """
    fs, path = _open_url(url)
    matched = [path] if fs.isdir(path) else [p for p in fs.glob(path) if not _is_hidden(p)]
    found = {p for top in matched for p in ([top] if fs.isfile(top) else fs.find(top))}
    inside = [p for p in found if not _is_hidden(p)]
    if not inside and not (may_be_empty and fs.isdir(path)):
        raise MissingInputError(f"{url}: no such file; {advice}")
    return sorted(inside if _is_local(fs) else [fs.unstrip_protocol(p) for p in inside])


def exists(url: str) -> bool:
    """Whether a file is there."""
    fs, path = _open_url(url)
    return bool(fs.isfile(path))


def parquet_fragments(table: str, path: str) -> tuple[list[Fragment], pa.Schema]:
    """One fragment a row group, and the columns of the file.

    Raises:
        InputError: not a Parquet file that can be read.
    """
    try:
        with fsspec.open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            sizes = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            schema = parquet.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    starts = np.cumsum([0, *sizes])
    groups = enumerate(zip(sizes, starts[:-1], strict=True))
    return [Fragment(table, path, n, g, int(first)) for g, (n, first) in groups], schema


def read_parquet(fragment: Fragment, columns: list[str] | None = None) -> Iterator[Batch]:
    """Stream a row group; `columns` = None reads all.

    Raises:
        InputError: the file is damaged.
    """
    first = fragment.first_row + 1
    groups = None if fragment.row_group is None else [fragment.row_group]
    try:
        with fsspec.open(fragment.path, "rb") as file:
            parquet = pq.ParquetFile(file)
            for part in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns):
                yield Batch(pa.Table.from_batches([part]), row_numbers(first, part.num_rows))
                first += part.num_rows
    except (OSError, pa.ArrowException) as error:
        at = f"row {first} or later"
        raise InputError(f"{fragment.path}: {at} cannot be read ({first_line(error)})") from error


def row_numbers(first: int, num_rows: int) -> NDArray[np.int64]:
    """Numbers of consecutive rows. int64 [num_rows]."""
    return np.arange(first, first + num_rows, dtype=np.int64)


def _open_url(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{url}: a package is missing ({first_line(error)})") from error
    except ValueError as error:
        raise InputError(f"{url}: not a URL that fsspec can open ({first_line(error)})") from error


def _is_hidden(path: str) -> bool:
    return path.rstrip("/").rsplit("/", 1)[-1].startswith(("_", "."))


def _is_local(fs: fsspec.AbstractFileSystem) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def first_line(error: Exception) -> str:
    """What an error says, without its details."""
    return str(error).partition("\n")[0]

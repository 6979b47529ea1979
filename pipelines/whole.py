"""Files and folders that are written whole or, if something stops it, not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def new_file(path: Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """What is written in the block becomes `path` at its end; an error leaves `path` as it was.

    If `durable`, it outlives a loss of power from then on, too.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.rename(path)
        if durable:
            folder = os.open(path.parent, os.O_RDONLY)  # the new name must last, too
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def save_array(path: Path, values: NDArray) -> None:
    """Write a .npy file."""
    with new_file(path) as file:
        np.save(file, values)


def save_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8."""
    with new_file(path) as file:
        file.write(text.encode())


def save_json(path: Path, values: Any) -> None:
    """Write a .json file that people can read."""
    save_text(path, json.dumps(values, indent=2) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `path` at the block's end.

    An error in the block leaves `path` as it was. Folders above it are made. Until the end all is
    in `<path>.partial`, which every reader of one disk sees; what a killed process left of it is
    cleared by the next, so no two may write one `path` at a time.
    """
    partial, before = (path.with_name(f"{path.name}.{end}") for end in ("partial", "replaced"))
    path.parent.mkdir(parents=True, exist_ok=True)
    _settle(path, partial, before)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rename(before)
        partial.rename(path)
    finally:
        _settle(path, partial, before)


def _settle(path: Path, partial: Path, before: Path) -> None:
    """Put back what was moved aside if nothing took its place, and clear the rest."""
    if before.exists() and not path.exists():
        before.rename(path)
    for left in (partial, before):
        if left.is_symlink():
            left.unlink()
        else:
            shutil.rmtree(left, ignore_errors=True)

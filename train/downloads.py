"""Files inside a download, be it a .zip or the folder unpacked from it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from pipelines.data.reader import InputError, MissingInputError


def found(folder: Path, name: str, fetch: str) -> Path:
    """The file `name` of the folder.

    Raises:
        MissingInputError: it is not there; `fetch` says where it comes from.
    """
    path = folder / name
    if not path.exists():
        raise MissingInputError(f"{path}: no such file; {fetch}, and put it there")
    return path


def member(folder: Path, archive: str, name: str, fetch: str) -> bytes:
    """A file of an archive `X.zip`, or of the folder X beside where that would be.

    Raises:
        MissingInputError: neither is there; `fetch` says where they come from.
        InputError: an archive without that file.
    """
    unpacked = folder / archive.removesuffix(".zip")
    if unpacked.is_dir():
        return found(unpacked, name, fetch).read_bytes()
    path = found(folder, archive, fetch)
    try:
        with zipfile.ZipFile(path) as content:
            inside = [at for at in content.namelist() if at.endswith(f"/{name}") or at == name]
            if not inside:
                raise InputError(f"{path}: holds no {name}; {fetch}")
            return content.read(min(inside, key=len))
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a readable .zip; {fetch}") from error

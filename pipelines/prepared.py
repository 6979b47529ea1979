"""The manifest of prepared data, and what is added to the folder after the data job wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANIFEST = "manifest.json"


def is_prepared(data: Path) -> bool:
    """Whether the data job has written `data`; it writes all of it or nothing."""
    return (data / _MANIFEST).exists()


def read_manifest(data: Path) -> dict[str, Any]:
    """What is said of prepared data.

    Raises:
        FileNotFoundError: `data` holds none.
    """
    if not is_prepared(data):
        raise FileNotFoundError(f"{data}: no prepared data; run python -m pipelines.data first")
    return json.loads((data / _MANIFEST).read_text())


def note(data: Path, key: str, value: Any) -> None:
    """Say one thing more of prepared data, in place of what was said under `key`."""
    manifest = read_manifest(data) | {key: value}
    partial = data / f"{_MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=2) + "\n")
    partial.rename(data / _MANIFEST)


def save_array(path: Path, values: NDArray) -> None:
    """Write all of a .npy file or nothing."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.save(file, values)
    partial.rename(path)

"""The manifest of prepared data: what the data job wrote, and what was added to it later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.whole import save_json

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
    save_json(data / _MANIFEST, read_manifest(data) | {key: value})

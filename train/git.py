"""Which commit of the project a result comes from."""

from __future__ import annotations

import subprocess


def commit() -> str:
    """Short hash of the checked-out commit, `-dirty` if files differ from it, or "unknown"."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

"""Which commit of the project a result comes from."""

from __future__ import annotations

import subprocess

_ROOT = ":/"
_NOT_REPORTS = (":(exclude,top)train/reports", ":(exclude,top)tests/bench/reports")


def commit() -> str:
    """Short hash of the checked-out commit, `-dirty` if tracked files differ from it, or "unknown".

    Reports do not count: a study rewrites its own while it runs.
    """
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", _ROOT, *_NOT_REPORTS)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def _git(*words: str) -> str:
    command = ["git", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

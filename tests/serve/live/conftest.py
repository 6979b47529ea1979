"""A journal in a file, empty at first, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    """A journal that is empty at first."""
    opened = SqliteJournal(SqliteSettings(path=str(tmp_path / "journal.db")))
    yield opened
    opened.close()


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Where dead letters go."""
    return tmp_path / "dead" / "letters.jsonl"

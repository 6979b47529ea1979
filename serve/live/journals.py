"""The journal that the settings name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve.live.journal import Journal
from serve.live.kafka import KafkaJournal, KafkaSettings
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings

JournalSettings = Annotated[SqliteSettings | KafkaSettings, Field(discriminator="kind")]


def open_journal(settings: SqliteSettings | KafkaSettings) -> Journal:
    """Open it; no file and no broker is asked before it is used.

    Raises:
        JournalError: what it needs is not installed.
        ValueError: settings that its client library refuses.
    """
    if isinstance(settings, KafkaSettings):
        return KafkaJournal(settings)
    return SqliteJournal(settings)

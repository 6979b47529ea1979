"""Which journal a settings file names."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve.live.journal import Journal
from serve.live.kafka import KafkaJournal, KafkaSettings
from serve.live.sqlite import SqliteJournal
from serve.live.sqlite_file import SqliteSettings

JournalSettings = Annotated[SqliteSettings | KafkaSettings, Field(discriminator="kind")]


def make_journal(settings: SqliteSettings | KafkaSettings) -> Journal:
    """The journal that `settings` describe, to be closed by the caller.

    Raises:
        JournalError: it cannot be had, as without a package. A broker may come later.
    """
    if isinstance(settings, KafkaSettings):
        return KafkaJournal(settings)
    return SqliteJournal(settings)

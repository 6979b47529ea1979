"""What viewers did lately and what they were shown: embedded by default, Redis beside it.

Read store.py first.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve.stores.viewers.redis import RedisSettings, RedisViewers
from serve.stores.viewers.sqlite import SqliteSettings, SqliteViewers
from serve.stores.viewers.store import ViewerStore

ViewerSettings = Annotated[SqliteSettings | RedisSettings, Field(discriminator="kind")]


def make_viewer_store(settings: SqliteSettings | RedisSettings) -> ViewerStore:
    """The store that `settings` describe, to be closed by the caller.

    Raises:
        ConfigError: a store that cannot be had with these settings, or without a package.
        ViewerStoreError: a file that cannot be opened. Redis may come later.
    """
    if isinstance(settings, RedisSettings):
        return RedisViewers(settings)
    return SqliteViewers(settings)

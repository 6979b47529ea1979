"""Which requests of a viewer may be answered from the same scored posts."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np

from pipelines.features import History
from pipelines.feed.stages import FeedQuery

# Parts of a request that may differ: each page asks anew what was seen, and for its own length.
# Whatever else a request may one day say counts, so that nobody has to think of adding it here.
_MAY_DIFFER = {"user_id", "limit", "now_ms", "request_id", "seen_ids", "overrides", "context"}


def pool_key(query: FeedQuery) -> str:
    """Names all that decides what may be on a viewer's page and what is predicted of it.

    Settings, surface, wishes, and what the viewer has done: one more engagement is another key.
    The models' version is not in it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in fields(query):
        if part.name not in _MAY_DIFFER:
            digest.update(f"{part.name}={getattr(query, part.name)!r};".encode())
    history = query["history"]
    for part in fields(History) if history is not None else ():
        digest.update(np.asarray(getattr(history, part.name)).tobytes())
    return digest.hexdigest()

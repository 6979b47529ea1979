"""A bundle that answers the feed in this process and records nothing: for replays and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.services import Scored, Served
from pipelines.feed.visibility import Kind
from serve.deployments import local_models
from serve.live.state import LiveState
from serve.services import FromBundle, RecordsNothing
from serve.stores.bundle import Stores
from serve.stores.recent import RecentPosts
from train.bundle import load


@dataclass(frozen=True)
class Offline(RecordsNothing, FromBundle):
    """`pipelines.feed.services.Services` of nobody's server: it has never shown anything.

    Attributes:
        feed_settings: what the bundle's timeline was tuned to, as `Pipeline.adopt` takes it.
    """

    feed_settings: Mapping[str, Any] = field(default_factory=dict)

    async def recent_actions(self, user_id: int, at_ms: int) -> History:
        """None: a replay knows what the bundle knows."""
        return History.empty(user_id)

    async def served(self, user_id: int) -> Served:
        """Nothing."""
        none = np.empty(0, np.int64)
        return Served(none, none, none.reshape(0, 0), none)

    async def labels(self, kind: Kind, ids: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
        """None, for the same reason."""
        return np.zeros(len(ids), np.int64)

    async def cached(self, user_id: int, key: str, after_ms: int, before_ms: int) -> Scored | None:
        """Nothing: every page of a replay is made from the start."""


def services(bundle: str) -> Offline:
    """From the bundle at a path.

    Raises:
        BundleError: it cannot be loaded.
    """
    loaded = load(bundle)
    return Offline(
        local_models(loaded),
        Stores.of(loaded, LiveState(RecentPosts(), lambda: loaded.as_of_ms)),
        loaded.feed_settings,
    )

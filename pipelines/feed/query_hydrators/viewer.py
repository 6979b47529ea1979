from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.services import Viewer as Account
from pipelines.feed.stages import FeedQuery, QueryHydrator


@dataclass(frozen=True, kw_only=True)
class Viewer(QueryHydrator):
    """Looks up the viewer's own account: its followers and its age."""

    needs = ()
    provides: ClassVar = {"query.viewer": Account}
    fails = "open"  # as for an account of which neither is known
    timeout_ms: PositiveInt = 200

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask the user store."""
        facts = await services.users(np.array([query.user_id]))
        account = Account(int(facts["num_followers"][0]), float(facts["created_at_s"][0]))
        return {"query.viewer": account}

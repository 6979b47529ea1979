from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, PositiveInt

from configs import near_miss
from pipelines.feed.presets import PRESETS, Preset
from pipelines.feed.services import Blend as BlendInUse
from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, QueryHydrator
from pipelines.schema import ACTION_NAMES


def _of_actions(weights: dict[str, float]) -> dict[str, float]:
    for name in weights:
        if name not in ACTION_NAMES:
            raise ValueError(f"{name!r}: no such action{near_miss(name, ACTION_NAMES)}")
    return weights


@dataclass(frozen=True, kw_only=True)
class Blend(QueryHydrator):
    """Decides what each predicted action is worth: as the bundle says, or by a published preset.

    `weights` change single actions of either. What the ranker never learned weighs nothing
    whoever says otherwise, and actions that only this log has keep their own weight.
    """

    needs = ()
    provides: ClassVar = {"query.blend": BlendInUse}
    fails = "open"  # base_score falls back to popularity
    timeout_ms: PositiveInt = 200
    preset: Preset | None = None
    weights: Annotated[dict[str, float], AfterValidator(_of_actions)] = field(default_factory=dict)

    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Ask for the bundle's weights, then change them."""
        blend = await services.blend()
        if not self.preset and not self.weights:
            return {"query.blend": blend}
        changed = {}
        if self.preset:
            changed = {**dict.fromkeys(ACTION_NAMES, 0.0), **PRESETS[self.preset]}
        changed |= self.weights
        weights = [
            changed.get(name, own) if learned else own
            for name, own, learned in zip(blend.actions, blend.own, blend.learned, strict=True)
        ]
        return {"query.blend": replace(blend, weights=np.array(weights, np.float64))}

"""The recall ramp: half of the test texts of CLINC-150 look for their like in the other half."""

from __future__ import annotations

from typing import Any

from train.prefix.scalars import mean_curves
from train.prefix.study import Arms, Runs, StudyConfig


def arms(study: StudyConfig) -> Arms:
    """Those of the CLINC part."""
    return study.clinc_arms()


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """By condition, level and measure (recall@k, mrr): mean and sd at each prefix."""
    return {
        "num_seeds": len(study.seeds),
        "conditions": {
            name: {level: mean_curves(found, "retrieval", level) for level in ("L0", "L1")}
            | {"sizes": found[0][0]["sizes"]}
            for (name,), found in runs.items()
        },
    }

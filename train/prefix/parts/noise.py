"""Wrong coarse labels in training, and how much steerability they leave, on CLINC-150."""

from __future__ import annotations

from typing import Any

from train.prefix.scalars import all_scalars, summaries
from train.prefix.study import CLINC, Arms, Runs, StudyConfig


def arms(study: StudyConfig) -> Arms:
    """The conditions of this part by share of wrong labels."""
    part = study.noise
    return {
        (name, f"{share:g}"): study.jobs(
            CLINC, study.taught(name), part.num_seeds, noise=share, uses=not share
        )
        for name in part.conditions
        for share in part.shares
    }


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Scalars by condition and share of wrong labels."""
    conditions: dict[str, Any] = {}
    for (name, share), found in runs.items():
        values = all_scalars(found)
        conditions.setdefault(name, {})[share] = {"summary": summaries(values), "by_seed": values}
    return {"num_seeds": len(next(iter(runs.values()))), "conditions": conditions}

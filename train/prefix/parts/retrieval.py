"""The recall ramp: half of the test texts of CLINC-150 look for their like in the other half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.prefix.scalars import mean_curves
from train.prefix.study import Arms, Runs, StudyConfig
from train.report_tables import Lines, table


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


def section(part: Mapping[str, Any]) -> Lines:
    """The recall ramp."""
    lines = [
        "## Recall ramp",
        "",
        "Half of the test texts of CLINC-150 look for a text of their label among the other half.",
        "",
    ]
    for level in ("L0", "L1"):
        measures = list(next(iter(part["conditions"].values()))[level])
        rows = [
            (name, size, *(f"{of[level][m]['mean'][at]:.3f}" for m in measures))
            for name, of in part["conditions"].items()
            for at, size in enumerate(of["sizes"])
            if name != "raw" or at == 0
        ]
        lines += table((level, "numbers", *measures), rows)
    return lines

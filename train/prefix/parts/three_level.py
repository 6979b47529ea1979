"""Three levels: five groups of domains → domain → intent, on CLINC-150."""

from __future__ import annotations

from typing import Any

from train.prefix.metrics import zoom
from train.prefix.scalars import Run, mean_curves, summaries
from train.prefix.study import CLINC, Arms, Runs, StudyConfig


def arms(study: StudyConfig) -> Arms:
    """The conditions of this part."""
    part = study.three_level
    return {
        (name,): study.jobs(
            CLINC, study.taught(name, 3), part.num_seeds, super_domains=True, uses=False
        )
        for name in part.conditions
    }


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Accuracies at each prefix, S between levels and zoom scores, in two measures."""
    return {
        "num_seeds": len(next(iter(runs.values()))),
        "conditions": {
            name: {
                "knn_2000": mean_curves(found, "knn", _pool(found)),
                "r_precision": mean_curves(found, "r_precision"),
                "zoom_knn": summaries(_zooms(found, "knn", _pool(found))),
                "zoom_r_precision": summaries(_zooms(found, "r_precision")),
                "sizes": found[0][0]["sizes"],
            }
            for (name,), found in runs.items()
        },
    }


def _pool(runs: list[Run]) -> str:
    """2,000 texts as published, or all where there are fewer."""
    return "2000" if "2000" in runs[0][0]["knn"] else "all"


def _zooms(runs: list[Run], *path: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for record, _ in runs:
        curves: Any = record
        for key in path:
            curves = curves[key]
        for name, value in zoom([curves[level] for level in ("L0", "L1", "L2")]).items():
            values.setdefault(name, []).append(value)
    return values

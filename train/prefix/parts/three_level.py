"""Three levels: five groups of domains → domain → intent, on CLINC-150."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.prefix.metrics import zoom
from train.prefix.scalars import Run, mean_curves, summaries
from train.prefix.study import Arms, Runs, StudyConfig
from train.prefix.tables import spread
from train.report_tables import Lines, table


def arms(study: StudyConfig) -> Arms:
    """The conditions of this part."""
    part = study.three_level
    return {
        (name,): study.side_jobs(
            study.taught(name, 3), part.num_seeds, super_domains=True, uses=False
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


def section(part: Mapping[str, Any]) -> Lines:
    """Three levels of labels."""
    lines = [
        "## Three levels",
        "",
        f"Five groups of domains, ten domains, 150 intents; {part['num_seeds']} seeds. The zoom "
        "score counts those of the two steps at which the coarse falls and the fine rises.",
        "",
    ]
    rows = [
        (name, size, *(f"{of[kind][level]['mean'][at]:.3f}" for kind in kinds for level in levels))
        for kinds, levels in [(("knn_2000", "r_precision"), ("L0", "L1", "L2"))]
        for name, of in part["conditions"].items()
        for at, size in enumerate(of["sizes"])
    ]
    columns = [f"{level} {k}" for k in ("5-NN", "R-precision") for level in ("L0", "L1", "L2")]
    lines += table(("", "numbers", *columns), rows)
    for key, words in (("zoom_knn", "by 5-NN, pool 2000"), ("zoom_r_precision", "by R-precision")):
        names = list(next(iter(part["conditions"].values()))[key])
        found = [
            (name, *(spread(of[key][m]) for m in names)) for name, of in part["conditions"].items()
        ]
        lines += table((words, *names), found)
    return lines


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

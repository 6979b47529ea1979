"""Fine classes that no head has seen: what prefixes know of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.prefix.jobs import RAW
from train.prefix.scalars import compare, mean_curves, summaries
from train.prefix.study import CLINC, Arms, Runs, StudyConfig, by_seed
from train.prefix.tables import TESTS, summaries_table
from train.report_tables import Lines, table


def arms(study: StudyConfig) -> Arms:
    """The conditions of this part, and the encoder itself."""
    part = study.unseen
    return {
        (name,): study.jobs(CLINC, study.taught(name), part.num_seeds, unseen=part.share)
        for name in (*part.conditions, RAW)
    }


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of the coarse label by training texts, R-precision among the unseen texts."""
    values = {name: _scalars(found) for (name,), found in runs.items()}
    names = list(next(iter(values.values())))
    pairs = {f"{name} - {RAW}": (values[name], values[RAW]) for name in study.unseen.conditions}
    return {
        "share": study.unseen.share,
        "num_seeds": len(next(iter(runs.values()))),
        "conditions": {
            name: {
                "summary": summaries(values[name]),
                "by_seed": values[name],
                "r_precision": mean_curves(found, "unseen", "r_precision"),
            }
            for (name,), found in runs.items()
        },
        "tests": compare(pairs, names),
    }


def section(part: Mapping[str, Any]) -> Lines:
    """Fine classes that no head has seen."""
    columns = {
        "l0_first": "L0@first",
        "l0_whole": "L0@whole",
        "r_l0_first": "R L0@first",
        "r_l0_whole": "R L0@whole",
        "r_l1_first": "R L1@first",
        "r_l1_whole": "R L1@whole",
    }
    rows = [
        (f"{columns[measure]}, {pair}", *(test[key] for key in TESTS))
        for measure, tests in part["tests"].items()
        for pair, test in tests.items()
    ]
    return [
        "## Unseen intents",
        "",
        f"{part['share']:.0%} of the intents of each domain are left out of training, drawn anew "
        f"by each of {part['num_seeds']} seeds. L0 by the five nearest training texts, R-precision "
        "among the test texts of those intents.",
        "",
        *summaries_table(part["conditions"], columns),
        *table(("paired", *TESTS), rows),
    ]


def _scalars(runs: Any) -> dict[str, list[float]]:
    r = ("unseen", "r_precision")
    return {
        "l0_first": by_seed(runs, "unseen", "knn_train_l0", 0),
        "l0_whole": by_seed(runs, "unseen", "knn_train_l0", -1),
        "r_l0_first": by_seed(runs, *r, "L0", 0),
        "r_l0_whole": by_seed(runs, *r, "L0", -1),
        "r_l1_first": by_seed(runs, *r, "L1", 0),
        "r_l1_whole": by_seed(runs, *r, "L1", -1),
    }

"""CLINC-150 with a frozen MiniLM: all conditions, all measures, and all their comparisons."""

from __future__ import annotations

from typing import Any

from train.prefix.jobs import RAW
from train.prefix.scalars import all_scalars, bootstrap, compare, mean_curves, summaries
from train.prefix.study import Arms, Runs, StudyConfig

TESTED = ("s_500", "s_2000", "s_all", "s_train", "s_probe", "s_r")
TESTED_ENDS = ("l0_first_train", "l1_whole_train", "l0_first_2000", "l1_whole_2000", "r_l0_first")


def arms(study: StudyConfig) -> Arms:
    """Every condition, and the encoder itself."""
    return study.clinc_arms()


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Curves, scalars by seed, paired tests against MRL and of the own head against V5."""
    values = {name: all_scalars(found) for (name,), found in runs.items()}
    pairs = {}
    for a, b in [(name, "mrl") for name in study.conditions if name != "mrl"] + [("own", "v5")]:
        if a in values and b in values:
            pairs[f"{a} - {b}"] = (a, b)
    tests = compare(
        {label: (values[a], values[b]) for label, (a, b) in pairs.items()}, TESTED + TESTED_ENDS
    )
    return {
        "num_seeds": len(study.seeds),
        "conditions": {
            name: {
                "num_parameters": found[0][0].get("num_parameters"),
                "fit_s": [record.get("fit_s") for record, _ in found],
                "kept_epoch": [record.get("kept_epoch") for record, _ in found],
                "exact_truncation": all(record.get("exact_truncation") for record, _ in found)
                if name != RAW
                else None,
                "sizes": found[0][0]["sizes"],
                "num_train": [record["num_train"] for record, _ in found],
                "num_test": [record["num_test"] for record, _ in found],
                "curves": {
                    **{
                        f"knn_{pool}": mean_curves(found, "knn", pool)
                        for pool in found[0][0]["knn"]
                    },
                    "r_precision": mean_curves(found, "r_precision"),
                    "probe": mean_curves(found, "probe"),
                },
                "summary": summaries(values[name]),
                "by_seed": values[name],
            }
            for (name,), found in runs.items()
        },
        "tests": tests,
        "bootstrap": {
            measure: {
                label: bootstrap(runs[(a,)], runs[(b,)], measure, same_items=True)
                for label, (a, b) in pairs.items()
            }
            for measure in ("knn", "r_precision")
        },
    }

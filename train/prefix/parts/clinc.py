"""CLINC-150 with a frozen MiniLM: all conditions, all measures, and all their comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.prefix.jobs import RAW
from train.prefix.scalars import all_scalars, bootstrap, compare, mean_curves, summaries
from train.prefix.study import Arms, Runs, StudyConfig
from train.prefix.tables import BESIDE, S_COLUMNS, TESTS, summaries_table
from train.report import text
from train.report_tables import Lines, table

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


def section(part: Mapping[str, Any]) -> Lines:
    """All conditions on CLINC-150."""
    conditions = part["conditions"]
    return [
        "## CLINC-150",
        "",
        f"{part['num_seeds']} seeds; {text(conditions['raw']['num_train'][0])} training texts, "
        f"{text(conditions['raw']['num_test'][0])} test texts. `raw` is the encoder itself, whose "
        "vector is not cut.",
        "",
        "### S by pool",
        "",
        *summaries_table(conditions, S_COLUMNS),
        "### S by other formulas",
        "",
        "S_gap is S by algebra; S_mono counts steps in the right direction.",
        "",
        *summaries_table(
            conditions,
            {f"s_{m}_{p}": f"S_{m} {p}" for m in ("auc", "mono") for p in ("2000", "train")},
        ),
        "### Beside S: accuracy with training texts as neighbours, and R-precision",
        "",
        *summaries_table(conditions, BESIDE),
        "### Each prefix",
        "",
        *_curves(conditions),
        "### Paired tests",
        "",
        "Two-sided t tests over seeds, d = mean / sd of the differences, Holm's correction over "
        "the pairs. Seeds share the test texts: the interval beside them draws seeds and test "
        "texts anew.",
        "",
        *_paired(part),
    ]


def _curves(conditions: Mapping[str, Any]) -> Lines:
    kinds = {"knn_train": "5-NN", "probe": "probe", "r_precision": "R-precision"}
    columns = [f"{level} {words}" for words in kinds.values() for level in ("L0", "L1")]
    rows = []
    for name, of in conditions.items():
        curves = [of["curves"][kind][level]["mean"] for kind in kinds for level in ("L0", "L1")]
        for at, size in enumerate(of["sizes"]):
            if name != "raw" or at == 0:
                rows.append((name, size, *(f"{curve[at]:.3f}" for curve in curves)))
    return table(("", "numbers", *columns), rows)


def _paired(part: Mapping[str, Any]) -> Lines:
    lines: Lines = []
    intervals = {"s_train": "knn", "s_r": "r_precision"}
    for measure, tests in part["tests"].items():
        drawn = part["bootstrap"].get(intervals.get(measure, ""), {})
        columns = (measure, *TESTS, *(("bootstrap 95 %",) if drawn else ()))
        rows = [
            (
                pair,
                *(test[key] for key in TESTS),
                *((f"{drawn[pair]['low']:.3f} to {drawn[pair]['high']:.3f}",) if drawn else ()),
            )
            for pair, test in tests.items()
        ]
        lines += table(columns, rows)
    return lines

"""The other public sets, and whether what holds for CLINC-150 holds there."""

from __future__ import annotations

import itertools
from typing import Any

from train.prefix.jobs import RAW
from train.prefix.scalars import all_scalars, bootstrap, compare, mean_curves, summaries
from train.prefix.statistics import meta_of_pairs, sign_test
from train.prefix.study import CLINC, Arms, Runs, StudyConfig

TESTED = ("s_r", "s_train", "s_all", "s_2000", "s_500")


def arms(study: StudyConfig) -> Arms:
    """The own head, V5 and MRL on every set."""
    return study.set_arms()


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Scalars of each set, paired tests within it, and a meta-analysis over all of them."""
    values = {arm: all_scalars(found) for arm, found in runs.items()}
    sets = list(dict.fromkeys(texts for texts, _ in runs))
    pairs = list(itertools.combinations(study.set_conditions, 2))
    tests: dict[str, Any] = {}
    for a, b in pairs:
        of = {texts: (values[texts, a], values[texts, b]) for texts in sets}
        tests[f"{a} - {b}"] = compare(of, TESTED)
    meta: dict[str, Any] = {}
    for measure, (a, b) in itertools.product(("s_r", "s_train"), pairs):
        deltas = {
            texts: [
                x - y
                for x, y in zip(values[texts, a][measure], values[texts, b][measure], strict=True)
            ]
            for texts in sets
        }
        means = [sum(delta) / len(delta) for delta in deltas.values()]
        meta.setdefault(measure, {})[f"{a} - {b}"] = {
            "random_effects": meta_of_pairs(deltas),
            "sign_test": sign_test(means),
        }
    return {
        "num_seeds": len(study.seeds),
        "sets": {
            texts: {
                name: {
                    "summary": summaries(values[texts, name]),
                    "by_seed": values[texts, name],
                    "r_precision": mean_curves(runs[texts, name], "r_precision"),
                    "knn_train": mean_curves(runs[texts, name], "knn", "train"),
                    "num_train": [record["num_train"] for record, _ in runs[texts, name]],
                    "num_test": [record["num_test"] for record, _ in runs[texts, name]],
                }
                for name in (*study.set_conditions, RAW)
            }
            for texts in sets
        },
        "tests": tests,
        "bootstrap": {
            f"{a} - {b}": {
                texts: bootstrap(
                    runs[texts, a],
                    runs[texts, b],
                    "r_precision",
                    same_items=stories[texts]["public_test"] is not None,
                )
                for texts in sets
            }
            for a, b in pairs
        },
        "meta": meta,
        "clinc_included": CLINC in sets,
    }

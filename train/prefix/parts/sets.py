"""The other public sets, and whether what holds for CLINC-150 holds there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from train.prefix.jobs import RAW
from train.prefix.scalars import all_scalars, bootstrap, compare, mean_curves, summaries
from train.prefix.statistics import meta_of_pairs, sign_test
from train.prefix.study import CLINC, Arms, Runs, StudyConfig
from train.prefix.tables import POOLS, TESTS, Lines, spread, table
from train.report import text

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


def section(part: Mapping[str, Any]) -> Lines:
    """All sets."""
    lines = ["## All sets", "", f"{part['num_seeds']} seeds.", ""]
    for key, words in (("s_r", "S_R"), *((f"s_{pool}", f"S, pool {pool}") for pool in POOLS)):
        lines += [f"### {words}", "", *_by_set(part, key)]
    lines += ["### L0@first and L1@whole, neighbours from training texts", ""]
    lines += _by_set(part, "l0_first_train", "L0 ") + _by_set(part, "l1_whole_train", "L1 ")
    lines += ["### Paired tests of S_R", ""]
    for pair, tests in part["tests"].items():
        drawn = part["bootstrap"][pair]
        rows = [
            (
                texts,
                *(test[key] for key in TESTS),
                f"{drawn[texts]['low']:.3f} to {drawn[texts]['high']:.3f}",
            )
            for texts, test in tests["s_r"].items()
        ]
        lines += table((pair, *TESTS, "bootstrap 95 %"), rows)
    lines += [
        "### Over the sets",
        "",
        "Random effects (DerSimonian and Laird) of the standardised paired difference, and an "
        "exact sign test of the sets' means. With these few seeds the effects of single sets are "
        "uncertain, and seeds of one set are not independent evidence.",
        "",
    ]
    columns = ("", "effect g", "95 %", "p", "I²", "sets", "sign", "sign p")
    rows_of = []
    for measure, pairs in part["meta"].items():
        for pair, meta in pairs.items():
            of, sign = meta["random_effects"], meta["sign_test"]
            low, high = (text(of.get(end)) for end in ("low", "high"))
            rows_of.append(
                (
                    f"{measure}, {pair}",
                    of.get("effect"),
                    f"{low} to {high}",
                    of.get("p"),
                    of.get("i2"),
                    of["num"],
                    f"{sign['positive']} of {sign['num']}",
                    sign["p"],
                )
            )
    return [*lines, *table(columns, rows_of)]


def _by_set(part: Mapping[str, Any], key: str, words: str = "") -> Lines:
    names = list(next(iter(part["sets"].values())))
    rows = [
        (texts, *(spread(of[name]["summary"].get(key)) for name in names))
        for texts, of in part["sets"].items()
    ]
    return table((words.strip(), *names), rows)

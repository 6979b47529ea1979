"""Whether what holds for CLINC-150 holds on other sets: tests and a meta-analysis over all.

Made from what the report knows of each set, so that sets may be measured at different times.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from train.prefix.jobs import RAW
from train.prefix.scalars import compare
from train.prefix.statistics import meta_of_pairs, sign_test
from train.prefix.tables import POOLS, TESTS, spread
from train.report import text
from train.report_tables import Lines, table

TESTED = ("s_r", "s_train", "s_all", "s_2000", "s_500")
Found = Mapping[str, Mapping[str, Any]]


def results(found: Found, conditions: Sequence[str]) -> dict[str, Any]:
    """Paired tests within each set, and a meta-analysis over them.

    Args:
        found: set -> its part of the report, in the order of the page.
        conditions: to compare, which every set has.
    """
    values = {
        (texts, name): part["conditions"][name]["by_seed"]
        for texts, part in found.items()
        for name in conditions
    }
    pairs = list(itertools.combinations(conditions, 2))
    tests: dict[str, Any] = {}
    for a, b in pairs:
        of = {texts: (values[texts, a], values[texts, b]) for texts in found}
        tests[f"{a} - {b}"] = compare(of, TESTED)
    meta: dict[str, Any] = {}
    for measure, (a, b) in itertools.product(("s_r", "s_train"), pairs):
        deltas = {
            texts: [
                x - y
                for x, y in zip(values[texts, a][measure], values[texts, b][measure], strict=True)
            ]
            for texts in found
        }
        means = [sum(delta) / len(delta) for delta in deltas.values()]
        meta.setdefault(measure, {})[f"{a} - {b}"] = {
            "random_effects": meta_of_pairs(deltas),
            "sign_test": sign_test(means),
        }
    first = next(iter(values.values()))
    return {
        "num_seeds": len(first["s_r"]),
        "sets": {
            texts: {
                name: {"summary": part["conditions"][name]["summary"]}
                for name in (*conditions, RAW)
            }
            for texts, part in found.items()
        },
        "tests": tests,
        "bootstrap": {
            pair: {texts: part["bootstrap"]["r_precision"][pair] for texts, part in found.items()}
            for pair in tests
        },
        "meta": meta,
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

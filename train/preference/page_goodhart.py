"""Parts of the page about who gains from a target's pairs, and what foretells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.preference.goodhart import COSINES
from train.report import text
from train.report_tables import Lines, table

Record = Mapping[str, Any]
_SHOWN = ("top 10", "sweep", "T=0.1", "T=0.5", "T=1", "T=10", "T=1, unit scores")


def predictors(record: Record) -> Lines:
    """How often each cosine is right on random pairs."""
    lines = ["## Which cosine foretells who gains", ""]
    lines += [
        "Random (target, hidden) pairs in both directions: the share whose sign each cosine tells, "
        "with Wilson intervals over unordered pairs. `covariance` is the cosine of the learned "
        "target and the true hidden weights under the pool's covariance, `covariance_true` takes "
        "the target's true weights too. Unit scores have standard deviation 1 over the pool, so "
        "that training longer does not sharpen the choice.",
        "",
    ]
    for name, of in record["sets"].items():
        rows = [
            (selection, *(_share(row[kind]) for kind in ("majority", *COSINES)))
            for selection, row in of["predictors"]["selections"].items()
        ]
        lines += [f"### {name}", "", *table(("selection", "majority", *COSINES), rows)]
        bins = of["predictors"]["selections"]["T=1"]["bins"]
        rows = [
            (kind, *(f"{_share(row)}, n {row['num']}" for row in by.values()))
            for kind, by in bins.items()
        ]
        lines += [*table(("T = 1, by size of the cosine", *bins["raw"]), rows)]
    return lines


def decoupling(record: Record) -> Lines:
    """Pairs and steps, varied apart."""
    lines = ["## Pairs or steps", ""]
    lines += [
        "Worth of the target's choice to the hidden one at T = 1, with pairs and optimiser steps "
        "varied apart.",
        "",
    ]
    for name, of in record["sets"].items():
        for part in of["decoupling"]:
            steps = sorted({cell["steps"] for cell in part["cells"]})
            at = {(cell["pairs"], cell["steps"]): cell for cell in part["cells"]}
            rows = [
                (f"{num:,} pairs", *(_cell(at[num, step]) for step in steps))
                for num in sorted({cell["pairs"] for cell in part["cells"]})
            ]
            head = f"{name}: {part['target']} > {part['hidden']}: raw / unit scores, norm"
            lines += table((head, *(f"{step:,} steps" for step in steps)), rows)
            shares = part["shares"]
            lines += [
                "Of the whole change "
                + "; ".join(
                    f"{words} ({shares[key]['change']:+.3f}): "
                    f"steps alone {shares[key]['steps_alone']:.0%}, "
                    f"pairs alone {shares[key]['pairs_alone']:.0%}"
                    for key, words in (("value", "raw"), ("unit_value", "unit scores"))
                )
                + ".",
                "",
            ]
    return lines


def _cell(cell: Mapping[str, float]) -> str:
    return f"{cell['value']:.3f} / {cell['unit_value']:.3f}, {cell['norm']:.1f}"


def pairs(record: Record) -> Lines:
    """Named stakeholders of each set."""
    lines = ["## Named stakeholders", ""]
    lines += [
        "Changes from 25 to 2,000 pairs of the target, by selection. `covariance` takes the "
        "target's weights as learned from 2,000 pairs, `covariance_true` the true ones; both take "
        "the hidden one's true weights, and `trained` learns those of both.",
        "",
    ]
    for name, of in record["sets"].items():
        accuracy = ", ".join(f"{who} {value:.3f}" for who, value in of["accuracy"].items())
        lines += [
            f"### {name}",
            "",
            f"{of['items']:,} items, {of['features']} features; {text(of['story'])}. Held-out "
            f"accuracy on labels of the same utility: {accuracy}.",
            "",
        ]
        rows = [
            (
                f"{row['target']} > {row['hidden']}",
                *(f"{row['cosine'][kind]:+.3f}" for kind in COSINES),
                *(f"{row['change'][selection]:+.3f}" for selection in _SHOWN),
            )
            for row in of["pairs"]
        ]
        lines += table(("target > hidden", *COSINES, *(f"Δ {s}" for s in _SHOWN)), rows)
        rows = [
            (selection, *(f"{right} of {num}" for right, num in row.values()))
            for selection, row in of["matches"].items()
        ]
        lines += table(("signs told right, strong pairs", *COSINES), rows)
    return lines


def levels(record: Record) -> Lines:
    """What the sweep is worth by few and many pairs, and what another split changes."""
    lines = ["## Levels of the sweep", ""]
    lines += [
        "Mean over 21 weights of diversity of the worth of ten items, by 25 and by 2,000 pairs of "
        "the target. Bystanders are hidden alone: their weights are made from counts and never "
        "learned.",
        "",
    ]
    for name, of in record["sets"].items():
        rows = [
            (
                f"{row['target']} > {row['hidden']}",
                f"{row['raw']:+.3f}",
                *(f"{row[key]:.3f}" for key in ("few", "many")),
                f"{row['many'] - row['few']:+.3f}",
            )
            for row in of["levels"]
        ]
        lines += table((name, "raw cosine", "25 pairs", "2,000 pairs", "change"), rows)
        if "curve" in of:
            who = [key for key in next(iter(of["curve"].values())) if key != "accuracy"]
            rows = [
                (num, *(by[key] for key in (*who, "accuracy"))) for num, by in of["curve"].items()
            ]
            head = f"{name}: pairs of the {who[0]}"
            lines += table((head, *who, "held-out accuracy"), rows)
    split, exact = record.get("random_split"), record["sets"].get("ml_100k")
    if split is not None and exact is not None:
        rows = [
            (
                f"{a['target']} > {a['hidden']}",
                *(
                    f"{row['cosine']['trained']:+.3f}, {row['change']['T=1']:+.3f}, "
                    f"{row['change']['T=10']:+.4f}"
                    for row in (a, b)
                ),
            )
            for a, b in zip(split["pairs"], exact["pairs"], strict=True)
        ]
        lines += [
            f"ML-100K with its training ratings drawn at random from all 100,000 "
            f"({split['items']:,} films) in place of the ua split's: trained cosine, change at "
            "T = 1 and at T = 10.",
            "",
            *table(("target > hidden", "at random", "ua split"), rows),
        ]
    return lines


def _share(row: Mapping[str, float]) -> str:
    return f"{row['share']:.3f} ({row['low']:.3f} to {row['high']:.3f})" if row["num"] else "–"

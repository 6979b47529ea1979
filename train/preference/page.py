"""The page of the study of preferences: a pure function of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.preference.plots import names, real_sources
from train.prefix.tables import Lines, table
from train.report import text

Record = Mapping[str, Any]
COSINES = ("raw", "trained", "covariance", "covariance_true")
_SHOWN = ("top 10", "sweep", "T=0.1", "T=0.5", "T=1", "T=10", "T=1, unit scores")


def markdown(record: Record) -> str:
    """The page of a record as `train.preference.study` writes it."""
    lines = [
        "# Whose preferences: what a feed's weights do to those who did not choose them",
        "",
        f"Made from `{record['name']}.json`; do not edit.",
        "",
        *(f"- {key.replace('_', ' ')}: {text(value)}" for key, value in record["header"].items()),
        f"- seconds: {text(record['seconds'])}",
        "",
        "Stakeholders want linear combinations of items' features. Their weights are learned from "
        "pairs of items by the Bradley-Terry model; a slate is then chosen by one stakeholder's "
        "learned weights (the target) and measured by another's true ones (the hidden). The "
        "published claim is that learning a target from more pairs helps a hidden one exactly if "
        "the cosine of their weights is positive.",
        "",
        *(f"{name} was left out: {why}\n" for name, why in record["left_out"].items()),
        *_claims(record),
        *_checks(record),
    ]
    plots = names(record)
    for name, section in _SECTIONS.items():
        lines += section(record)
        if name in plots:
            lines += [f"![{name}]({record['name']}_{name}.png)", ""]
    return "\n".join(lines).rstrip() + "\n"


def _claims(record: Record) -> Lines:
    rows = [
        (row["claim"], row["found"], "holds" if row["holds"] else "**does not hold**")
        for row in record["claims"]
    ]
    return ["## What was claimed", "", *table(("claim", "found here", "verdict"), rows)]


def _checks(record: Record) -> Lines:
    rows = [
        (
            check["check"] + (f" ({check['note']})" if "note" in check else ""),
            ("aim: " if check.get("aim") else "") + check["bar"],
            check["value"],
            "met" if check["met"] else "**MISSED**",
        )
        for check in record["checks"]
    ]
    return ["## Checks", "", *table(("check", "bar", "value", "verdict"), rows)]


def _predictors(record: Record) -> Lines:
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


def _decoupling(record: Record) -> Lines:
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
                    f"{words} ({shares[key]['change']:+.3f}): steps alone "
                    f"{shares[key]['steps_alone']:.0%}, pairs alone {shares[key]['pairs_alone']:.0%}"
                    for key, words in (("value", "raw"), ("unit_value", "unit scores"))
                )
                + ".",
                "",
            ]
    return lines


def _cell(cell: Mapping[str, float]) -> str:
    return f"{cell['value']:.3f} / {cell['unit_value']:.3f}, {cell['norm']:.1f}"


def _pairs(record: Record) -> Lines:
    lines = ["## Named stakeholders", ""]
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


def _budget(record: Record) -> Lines:
    lines = ["## What it costs to hear one who was left out", ""]
    lines += [
        "Regret by pairs learned from. As published the learned vector keeps its length, and "
        "recovery above 100 % only says that it drowned the others out; norm-matched it has the "
        "true length, and 100 % is what the true weights win back. A price above the largest "
        "budget counts as larger than all others in the median.",
        "",
    ]
    for name, of in record["sets"].items():
        pairs = next(iter(of["budget"].values()))["pairs"]
        rows = []
        for who, row in of["budget"].items():
            for kind in ("published", "norm_matched"):
                cost = (_price(row[f"{kind}_{level}"], pairs[-1]) for level in ("n50", "n80"))
                oracle = row["oracle"] if kind == "norm_matched" else None
                regrets = (f"{value:.3f}" for value in row[kind])
                rows.append((f"{who}, {kind.replace('_', '-')}", *regrets, oracle, *cost))
        columns = (name, *(f"{num} pairs" for num in pairs), "true weights", "50 %", "80 %")
        lines += table(columns, rows)
        rows = [
            (
                key.replace("_", " "),
                _price(row["median"], pairs[-1]),
                row["median_of_those_reached"],
                f"{row['reached']} of {row['of']}",
            )
            for key, row in of["budget_medians"].items()
        ]
        lines += table(("median pairs", "all", "of those that reach it", "reach it"), rows)
    return lines


def _price(value: float | None, largest: int) -> str:
    return f"> {largest}" if value is None else f"{value:.0f}"


def _frontier(record: Record) -> Lines:
    lines = ["## Who loses when one is left out", ""]
    lines += [
        "The others keep what is Pareto-optimal for them; regret is the best point for the one "
        "left out less the mean of those. Slates of the same items are one point here. Compared "
        "without tolerance, sums of the same items in another order differ in the last bit, and "
        "chance decides how many of them count: the range says what figures that can make.",
        "",
    ]
    rows = [
        (
            f"{name}, {who}",
            row["regret"],
            f"{row['published_could_be'][0]:.3f} to {row['published_could_be'][1]:.3f}",
            f"{row['kept']} of {row['points']}",
        )
        for name, of in record["sets"].items()
        for who, row in of["geometric"].items()
    ]
    columns = ("left out", "regret", "range by rounding", "points kept")
    lines += table(columns, rows)
    rows = [
        (
            name,
            *(
                of["composition"][key]
                for key in (
                    *("mixtures", "cosine_mean", "cosine_min", "above_0.95"),
                    *("hypervolume_composed", "hypervolume_mean"),
                )
            ),
        )
        for name, of in record["sets"].items()
    ]
    lines += [
        "Weights learned for mixtures of stakeholders, against their projection on the span of "
        "what was learned of each; hypervolumes are exact, above the worst value of any frontier, "
        "relative to that of the mixtures.",
        "",
        *table(
            (
                *("", "mixtures", "mean cosine", "least", "above 0.95"),
                *("hypervolume, composed", "plain mean"),
            ),
            rows,
        ),
    ]
    return lines


def _losses(record: Record) -> Lines:
    lines = ["## Labels or loss", ""]
    lines += [
        "Mean cosine of weights learned from the same pairs by Bradley-Terry, margin and "
        "calibrated losses; and over seven settings of these.",
        "",
    ]
    rows = [
        (
            f"{name}, {who}",
            row["mean"],
            of["by_setting"][who]["mean"],
            of["by_setting"][who]["min"],
            ", ".join(f"{loss} {value:.3f}" for loss, value in row["accuracy"].items()),
        )
        for name, of in record["sets"].items()
        for who, row in of["by_loss"].items()
    ]
    columns = ("", "losses", "settings", "least of any run", "held-out accuracy")
    return [*lines, *table(columns, rows)]


def _real(record: Record) -> Lines:
    sources = real_sources(record)
    if not sources:
        return []
    lines = ["## Preferences that people showed", ""]
    lines += [
        "Labels here come from people, not from the utility that is learned: which of two films a "
        "viewer who was not learned from rates higher; which of two videos of one session was "
        "clicked. Intervals over people; a tie counts half.",
        "",
    ]
    for name, of in sources.items():
        rows = [
            (
                key.replace("_", " "),
                f"{row['accuracy']:.3f}",
                f"{row['low']:.3f} to {row['high']:.3f}",
            )
            for key, row in of["accuracy"].items()
        ]
        head = f"{name}: {of['test_pairs']:,} pairs of {of['test_people']:,} people"
        lines += table((head, "told right", "95 %"), rows)
    return lines


def _audit(record: Record) -> Lines:
    of = record["audit"]
    rows = [(name, row["society"], row["user"]) for name, row in of["scenarios"].items()]
    flips = ", ".join(f"{at:+.4f} for α = {alpha}" for alpha, at in of["flips_at"].items())
    lines = ["## The audit in closed form", ""]
    lines += table(("weights", "cosine with society", "with user"), rows)
    return [
        *lines,
        f"The sign flips where the negative actions weigh +5 / (4 α): {flips}; with the neutral "
        f"actions at one half it is {of['flips_at_neutral_half']:+.4f} for α = 4 all the same.",
        "",
    ]


def _share(row: Mapping[str, float]) -> str:
    return f"{row['share']:.3f} ({row['low']:.3f} to {row['high']:.3f})" if row["num"] else "–"


_SECTIONS = {
    "predictors": _predictors,
    "decoupling": _decoupling,
    "named": _pairs,
    "budget": _budget,
    "frontier": _frontier,
    "losses": _losses,
    "audit": _audit,
    "real": _real,
}

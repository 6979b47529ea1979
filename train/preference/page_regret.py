"""Parts of the page about regret, budgets, losses, audits and what people showed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.report_tables import Lines, table

Record = Mapping[str, Any]


def budget(record: Record) -> Lines:
    """Regret by pairs, and prices."""
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
                oracle = row["oracle"] if kind == "norm_matched" else None
                cost = [_price(row[f"{kind}_{level}"], pairs[-1]) for level in ("n50", "n80")]
                if row[kind][0] <= (oracle or 0.0):
                    cost = ["nothing to win back"] * 2
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


def frontier(record: Record) -> Lines:
    """Geometric regret, and composed frontiers."""
    lines = ["## Who loses when one is left out", ""]
    lines += [
        "The others keep what is Pareto-optimal for them; regret is the best point for the one "
        "left out less the mean of those. Slates of the same items in another order are equal for "
        "all, but without a tolerance the last bit of a sum decides how many of them count. "
        "`distinct slates` counts each once, which depends on no rounding. `as published` sums as "
        "the published script does (the product of weights and features once, then NumPy's sum "
        "over the ten values of each slate in the order chosen); the checks say whether that gives "
        "the published figures. The range is what counting equals once or each time can make.",
        "",
    ]
    rows = [
        (
            f"{name}, {who}",
            *(f"{row[key]:.3f}" for key in ("regret", "as_published")),
            f"{row['published_could_be'][0]:.3f} to {row['published_could_be'][1]:.3f}",
            f"{row['kept']} of {row['points']}",
        )
        for name, of in record["sets"].items()
        for who, row in of["geometric"].items()
    ]
    columns = ("left out", "distinct slates", "as published", "range", "distinct points kept")
    lines += table(columns, rows)
    rows = [
        (
            name,
            *(
                of["composition"][key]
                for key in (
                    *("mixtures", "cosine_mean", "cosine_min", "above_0.95"),
                    *("hypervolume_composed", "hypervolume_projected", "hypervolume_mean"),
                )
            ),
        )
        for name, of in record["sets"].items()
    ]
    lines += [
        "Weights learned from pairs of mixtures (each pair is that of a stakeholder drawn by the "
        "mixture's shares): their cosine to the span of what was learned of each stakeholder "
        "alone; and hypervolumes, exact, above the worst value of any frontier, relative to "
        "that of the mixtures: of the stakeholders' weights summed by the shares (composed), of "
        "the projections, and of the plain mean. One seed, as published.",
        "",
        *table(
            (
                *("", "mixtures", "mean cosine", "least", "above 0.95"),
                *("hypervolume, composed", "projected", "plain mean"),
            ),
            rows,
        ),
    ]
    return lines


def losses(record: Record) -> Lines:
    """Cosines between losses and settings."""
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


def constrained(record: Record) -> Lines:
    """What the rules of the constrained loss change, by where learning starts."""
    rows = [
        (
            f"{row['start']}, {row['pairs']:,} pairs, {row['stakeholder']}",
            *(row[key] for key in ("cosine", "largest_difference", "penalty_without")),
            f"{row['accuracy_without']:.3f}, {row['accuracy']:.3f}",
        )
        for of in record["sets"].values()
        for row in of.get("constrained", ())
    ]
    if not rows:
        return []
    columns = ("start", "cosine to Bradley-Terry", "largest difference of a weight")
    return [
        "## Where the constrained loss acts",
        "",
        "Its rules: each of the user's negative actions weighs -0.1 at most, society's weights "
        "have a standard deviation of 0.3 at least, and the platform has none. They hold where the "
        "study starts, at +1 and -1 (given); neutral starts at 0.1 everywhere. A rule that is "
        "never broken on the way changes nothing: the largest difference is then 0. Where the "
        "penalty is 0, what Bradley-Terry learns breaks no rule in the end, so that a rule changes "
        "only the way there.",
        "",
        *table((*columns, "penalty of Bradley-Terry's weights", "accuracy without and with"), rows),
    ]


def audit(record: Record) -> Lines:
    """Scenarios and where signs flip."""
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

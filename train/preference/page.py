"""The page of the study of preferences: a pure function of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.preference import page_goodhart, page_regret, page_shown
from train.preference.plots import names
from train.report import text
from train.report_tables import Lines, checks_section, parts_section, table

Record = Mapping[str, Any]


def markdown(record: Record) -> str:
    """The page of a record as `train.preference.study` writes it."""
    lines = [
        "# Whose preferences: what a feed's weights do to those who did not choose them",
        "",
        f"Made from `{record['name']}.json`; do not edit.",
        "",
        *(f"- {key.replace('_', ' ')}: {text(value)}" for key, value in record["header"].items()),
        f"- seconds of this command on the wall: {text(record['wall_seconds'])}",
        "",
        *parts_section(record["parts"]),
        "Stakeholders want linear combinations of items' features. Their weights are learned from "
        "pairs of items by the Bradley-Terry model; a slate is then chosen by one stakeholder's "
        "learned weights (the target) and measured by another's true ones (the hidden). The "
        "published claim is that learning a target from more pairs helps a hidden one exactly if "
        "the cosine of their weights is positive.",
        "",
        *(f"{name} was left out: {why}\n" for name, why in record["left_out"].items()),
        *_claims(record),
        *checks_section(record["checks"]),
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


_SECTIONS = {
    "predictors": page_goodhart.predictors,
    "decoupling": page_goodhart.decoupling,
    "named": page_goodhart.pairs,
    "levels": page_goodhart.levels,
    "budget": page_regret.budget,
    "frontier": page_regret.frontier,
    "losses": page_regret.losses,
    "constrained": page_regret.constrained,
    "audit": page_regret.audit,
    "real": page_shown.real,
    "world": page_shown.world,
}

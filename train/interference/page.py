"""The page of the study of the interference field: a pure function of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.interference import conclusion
from train.interference.parts import SECTIONS
from train.report import text
from train.report_tables import Lines, checks_section, parts_section, table

Record = Mapping[str, Any]
PLOTS: dict[str, tuple[str, ...]] = {  # part -> its plots
    "rankers": ("rankers",),
    "cold_start": ("lift",),
    "phoenix": ("learned",),
    "dimension": ("dimension",),
    "feedback": ("feedback",),
    "ablations": ("ablations",),
}


def markdown(record: Record) -> str:
    """The page of a record as `train.fractalx_study` writes it."""
    name = record["name"]
    lines = [
        "# The interference field: what does it add?",
        "",
        f"Made from `{name}.json`; do not edit.",
        "",
        *(f"- {key.replace('_', ' ')}: {text(value)}" for key, value in record["header"].items()),
        "",
        *parts_section(record["parts"]),
        *_data(record),
        *checks_section(record["checks"]),
    ]
    for part, of in SECTIONS.items():
        if part in record:
            lines += of.section(record[part])
            lines += [f"![{plot}]({name}_{plot}.png)\n" for plot in PLOTS.get(part, ())]
    lines += conclusion.section(record["conclusion"])
    return "\n".join(lines).rstrip() + "\n"


def _data(record: Record) -> Lines:
    """The sets."""
    keys = ("ratings", "viewers", "posts", "liked", "disliked")
    rows = [(name, *(of[key] for key in keys)) for name, of in record["data"].items()]
    lines = ["## Data", "", *table(("set", *keys), rows)]
    for name, why in record["left_out"].items():
        lines += [f"{name} was left out: {why}", ""]
    return lines

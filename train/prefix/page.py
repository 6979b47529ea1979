"""The page of the study of prefix heads: a pure function of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.prefix.parts import SECTIONS
from train.report import text
from train.report_tables import Lines, checks_section, table

Record = Mapping[str, Any]
PLOTS = {  # part -> its plots
    "clinc": ("curves", "pools"),
    "sets": ("sets",),
    "goldilocks": ("goldilocks",),
    "routing": ("routing",),
    "noise": ("noise",),
}


def markdown(record: Record) -> str:
    """The page of a record as `train.prefix_study` writes it."""
    name = record["name"]
    lines = [
        "# Prefix heads: does a shorter vector mean a coarser one?",
        "",
        f"Made from `{name}.json`; do not edit.",
        "",
        *(f"- {key.replace('_', ' ')}: {text(value)}" for key, value in record["header"].items()),
        "",
        "A head over a frozen encoder makes one vector of a text; its first numbers are a prefix. "
        "S = (L0@1 - L0@J) + (L1@J - L1@1) says how much better the shortest prefix is at the "
        "coarse label and how much worse at the fine one, against the whole vector: accuracies of "
        "the five nearest neighbours. S_R is the same of R-precision. S depends on the pool of "
        "neighbours, and grows when fine detail is destroyed, so each is given at four pools, and "
        "beside it what must not be lost. Values are means ± standard deviations over seeds, each "
        "of which draws training texts, validation texts and weights anew. Nothing is chosen by "
        "test texts.",
        "",
        *_costs(record),
        *_data(record),
        *checks_section(record["checks"]),
    ]
    for part, of in SECTIONS.items():
        if part in record:
            lines += of.section(record[part])
            lines += [f"![{plot}]({name}_{plot}.png)\n" for plot in PLOTS.get(part, ())]
    return "\n".join(lines).rstrip() + "\n"


def _costs(record: Record) -> Lines:
    """What each part costs, and when it was made."""
    parts = record["parts"]
    columns = ("heads", "cpu_minutes", "date", "git_commit")
    rows = [(name, *(part[c] for c in columns)) for name, part in parts.items()]
    heads, minutes = (sum(part[c] for part in parts.values()) for c in columns[:2])
    last = record["this_command"]
    return [
        "## Cost",
        "",
        *table(("part", "heads of its own", "CPU minutes", "date", "git commit"), rows),
        f"{heads:,} heads and {minutes / 60:.1f} CPU hours in all, to train and measure, texts "
        "being encoded before; on n idle cores the wall time is an n-th. The command that wrote "
        f"this page took {text(last['seconds'] / 60)} minutes and trained "
        f"{text(last['heads_trained'])} heads; the others were kept from before.",
        "",
    ]


def _data(record: Record) -> Lines:
    """The sets."""
    columns = ("set", "texts", "public test", "L0", "L1", "H(L0) bits", "H(L1 given L0) bits")
    keys = ("texts", "public_test", "coarse", "fine", "h_coarse_bits", "h_fine_given_coarse_bits")
    rows = [(name, *(of[key] for key in keys)) for name, of in record["data"].items()]
    lines = ["## Data", "", *table(columns, rows)]
    for name, why in record["left_out"].items():
        lines += [f"{name} was left out: {why}", ""]
    return lines

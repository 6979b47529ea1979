"""The page of the study of prefix heads: a pure function of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.prefix import page_parts
from train.report import text

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
        *page_parts.costs(record),
        *page_parts.data(record),
        *page_parts.checks(record),
    ]
    for part, make in page_parts.PARTS.items():
        if part in record:
            lines += make(record)
            lines += [f"![{plot}]({name}_{plot}.png)\n" for plot in PLOTS.get(part, ())]
    return "\n".join(lines).rstrip() + "\n"

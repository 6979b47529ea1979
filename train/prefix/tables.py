"""Tables of the study's page, made from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.report_tables import Lines, table

POOLS = ("500", "2000", "all", "train")
S_COLUMNS = {f"s_{pool}": f"S {pool}" for pool in POOLS} | {"s_probe": "S probe", "s_r": "S_R"}
BESIDE = {
    "l0_first_train": "L0@first",
    "l0_whole_train": "L0@whole",
    "l1_first_train": "L1@first",
    "l1_whole_train": "L1@whole",
    "r_l0_first": "R L0@first",
    "r_l0_whole": "R L0@whole",
    "r_l1_first": "R L1@first",
    "r_l1_whole": "R L1@whole",
}
TESTS = ("difference", "sd", "d", "t", "p", "p_holm")


def spread(value: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Mean ± standard deviation."""
    if not value or value["mean"] is None:
        return "–"
    sd = value.get("sd")
    return f"{value['mean']:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")


def summaries_table(conditions: Mapping[str, Any], columns: Mapping[str, str]) -> Lines:
    """A row a condition: mean ± standard deviation of each scalar in `columns`, key -> heading."""
    rows = [
        (name, *(spread(of["summary"].get(key)) for key in columns))
        for name, of in conditions.items()
    ]
    return table(("", *columns.values()), rows)

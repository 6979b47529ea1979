"""Wrong coarse labels in training, and how much steerability they leave, on CLINC-150."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.prefix.scalars import all_scalars, summaries
from train.prefix.study import Arms, Runs, StudyConfig
from train.prefix.tables import BESIDE, S_COLUMNS, spread
from train.report_tables import Lines, table


def arms(study: StudyConfig) -> Arms:
    """The conditions of this part by share of wrong labels."""
    part = study.noise
    return {
        (name, f"{share:g}"): study.side_jobs(
            study.taught(name), part.num_seeds, noise=share, uses=False
        )
        for name in part.conditions
        for share in part.shares
    }


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Scalars by condition and share of wrong labels."""
    conditions: dict[str, Any] = {}
    for (name, share), found in runs.items():
        values = all_scalars(found)
        conditions.setdefault(name, {})[share] = {"summary": summaries(values)}
    return {"num_seeds": len(next(iter(runs.values()))), "conditions": conditions}


def section(part: Mapping[str, Any]) -> Lines:
    """Wrong coarse labels."""
    columns = {**S_COLUMNS, **{k: BESIDE[k] for k in ("l0_first_train", "l1_whole_train")}}
    columns["r_l0_first"] = BESIDE["r_l0_first"]
    rows = [
        (name, f"{float(share):.0%}", *(spread(of["summary"].get(key)) for key in columns))
        for name, shares in part["conditions"].items()
        for share, of in shares.items()
    ]
    return [
        "## Wrong coarse labels",
        "",
        f"A share of the coarse training labels of CLINC-150 is wrong; {part['num_seeds']} seeds.",
        "",
        *table(("", "wrong", *columns.values()), rows),
    ]

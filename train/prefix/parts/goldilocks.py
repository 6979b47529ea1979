"""Random coarse labels of CLINC-150's intents: which number makes the most of a first block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from train.prefix.objectives import BLOCKS
from train.prefix.scalars import all_scalars, summaries
from train.prefix.statistics import peak_interval
from train.prefix.study import Arms, Runs, StudyConfig
from train.prefix.tables import spread
from train.report import text
from train.report_tables import Lines, table

MEASURES = ("s_500", "s_2000", "s_train", "s_r")


def arms(study: StudyConfig) -> Arms:
    """The conditions of this part by width of the first block and number of groups."""
    part = study.goldilocks
    return {
        (name, str(first), str(groups)): study.side_jobs(
            study.taught(name, block_sizes=(first, *BLOCKS[1:])),
            part.num_seeds,
            groups=groups,
            uses=False,
        )
        for name, widths in part.first_blocks.items()
        for first in widths
        for groups in part.groups
    }


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """By condition and width of the first block: scalars by number of groups, and where S peaks.

    The peak is that of a quadratic in H(L0) = log2 of the number of groups, in bits.
    """
    groups = study.goldilocks.groups
    conditions: dict[str, Any] = {}
    for name, widths in study.goldilocks.first_blocks.items():
        for first in map(str, widths):
            values = {str(g): all_scalars(runs[name, first, str(g)]) for g in groups}
            conditions.setdefault(name, {})[first] = {
                "groups": {
                    g: {
                        "summary": summaries(of),
                        "by_seed": {measure: of[measure] for measure in MEASURES if measure in of},
                    }
                    for g, of in values.items()
                },
                "peaks": {
                    measure: peak_interval(
                        np.log2(groups),
                        np.array([values[str(g)][measure] for g in groups]).T,
                    )
                    for measure in MEASURES
                    if measure in next(iter(values.values())) and len(groups) > 2
                },
            }
    return {
        "num_seeds": study.goldilocks.num_seeds,
        "groups": list(groups),
        "conditions": conditions,
    }


def section(part: Mapping[str, Any]) -> Lines:
    """Random coarse groups."""
    columns = ("s_500", "s_2000", "s_train", "s_r", "l0_first_train", "l1_whole_train")
    rows, peaks = [], []
    for name, widths in part["conditions"].items():
        for width, of in widths.items():
            for groups, values in of["groups"].items():
                cells = (spread(values["summary"].get(key)) for key in columns)
                rows.append((name, width, groups, *cells))
            for measure, fit in of["peaks"].items():
                ends = (None if fit[k] is None else 2 ** fit[k] for k in ("peak_low", "peak_high"))
                low, high = (text(end) for end in ends)
                peak = None if fit["peak"] is None else 2 ** fit["peak"]
                share = fit["share_peaked"]
                peaks.append((name, width, measure, peak, f"{low} to {high}", share, fit["r2"]))
    words = ("groups at the peak", "95 %", "share of draws with a peak", "R²")
    return [
        "## How coarse is best",
        "",
        f"The intents of CLINC-150 in random groups of equal size; {part['num_seeds']} seeds, each "
        "with groups of its own. The peak is that of a quadratic in log2 of the number of groups.",
        "",
        *table(("", "first block", "groups", *columns), rows),
        *table(("", "first block", "", *words), peaks),
    ]

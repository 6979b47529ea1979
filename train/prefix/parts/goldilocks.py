"""Random coarse labels of CLINC-150's intents: which number makes the most of a first block."""

from __future__ import annotations

from typing import Any

import numpy as np

from train.prefix.scalars import all_scalars, summaries
from train.prefix.statistics import peak_interval
from train.prefix.study import BLOCKS, CLINC, Arms, Runs, StudyConfig

MEASURES = ("s_500", "s_2000", "s_train", "s_r")


def arms(study: StudyConfig) -> Arms:
    """The conditions of this part by width of the first block and number of groups."""
    part = study.goldilocks
    return {
        (name, str(first), str(groups)): study.jobs(
            CLINC,
            study.taught(name, block_sizes=(first, *BLOCKS[1:])),
            part.num_seeds,
            groups=groups,
            uses=False,
        )
        for name in part.conditions
        for first in part.first_blocks
        for groups in part.groups
    }


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """By condition and width of the first block: scalars by number of groups, and where S peaks.

    The peak is that of a quadratic in H(L0) = log2 of the number of groups, in bits.
    """
    groups = study.goldilocks.groups
    conditions: dict[str, Any] = {}
    for name in study.goldilocks.conditions:
        for first in map(str, study.goldilocks.first_blocks):
            values = {str(g): all_scalars(runs[name, first, str(g)]) for g in groups}
            conditions.setdefault(name, {})[first] = {
                "groups": {
                    g: {"summary": summaries(of), "by_seed": of} for g, of in values.items()
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

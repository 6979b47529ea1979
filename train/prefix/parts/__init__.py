"""Parts of the study, one a file: its heads, what it makes of their results, and its section.

A part on CLINC-150 is a module with `arms(study) -> Arms`, heads that other parts have trained too
being trained once, `results(study, runs, stories) -> dict`, plain values, and `section(part) ->
Lines`, the page's words and tables made from these values alone. Each other set is a part by
its name, of `one_set`; `sets` and `trend` are made from what the report says of all sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from train.prefix.parts import (
    clinc,
    goldilocks,
    noise,
    one_set,
    retrieval,
    routing,
    sets,
    three_level,
    trend,
    unseen,
)
from train.prefix.study import CLINC, Arms, Runs, StudyConfig

SECTIONS: dict[str, ModuleType] = {  # in the order of the page
    "clinc": clinc,
    "sets": sets,
    "trend": trend,
    "unseen": unseen,
    "three_level": three_level,
    "goldilocks": goldilocks,
    "noise": noise,
    "retrieval": retrieval,
    "routing": routing,
}


def set_of(config: StudyConfig, part: str) -> str:
    """Whose texts a part is about."""
    return part if part in config.other_sets else CLINC


def arms_of(config: StudyConfig, part: str) -> Arms:
    """What a part trains."""
    if part in config.other_sets:
        return one_set.arms(config, part)
    return SECTIONS[part].arms(config)


def results_of(
    config: StudyConfig, part: str, runs: Runs, stories: Mapping[str, Any]
) -> dict[str, Any]:
    """What a part makes of its heads' results."""
    if part in config.other_sets:
        return one_set.results(config, runs, stories[part])
    return SECTIONS[part].results(config, runs, stories)

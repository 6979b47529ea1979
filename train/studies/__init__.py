"""Studies: several runs on the same rows as their baselines, and one report.

`python -m train CONFIG` runs the study that the file's `study` names and writes
train/reports/REPORT.json, with the page made from it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from configs import Config, near_miss
from pipelines.schema import ACTION_NAMES


def _known(name: str) -> str:
    if name not in ACTION_NAMES:
        raise ValueError(f"{name!r} is no action{near_miss(name, ACTION_NAMES)}")
    return name


ActionName = Annotated[str, AfterValidator(_known)]


class Study(Config):
    """What every study has."""

    report: str = Field(pattern=r"^[\w.-]+$")  # train/reports/<report>.json and .md
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)  # one run each

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)}: a seed twice is one run, not two")
        return seeds

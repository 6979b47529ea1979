"""Studies: several runs on the same rows as their baselines, and one report.

`python -m train CONFIG` runs the study that the file's `study` names and writes
train/reports/REPORT.json, with the page made from it.
"""

from __future__ import annotations

from pydantic import Field

from configs import Config


class Study(Config):
    """What every study has."""

    report: str = Field(pattern=r"^[\w.-]+$")  # train/reports/<report>.json and .md
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)  # one run each

"""Parts of the study, one a file.

Each is a module with `SETTINGS`, what of the study's settings it reads, `results(world) -> dict`
of plain values, and `section(part) -> Lines`, the page's words and tables made from these alone.
"""

from __future__ import annotations

from types import ModuleType

from train.interference.parts import (
    ablations,
    cold_start,
    dimension,
    features,
    feedback,
    phoenix,
    published,
    rankers,
    spaces,
)

SECTIONS: dict[str, ModuleType] = {  # in the order of the page
    "published": published,
    "rankers": rankers,
    "features": features,
    "cold_start": cold_start,
    "spaces": spaces,
    "phoenix": phoenix,
    "dimension": dimension,
    "feedback": feedback,
    "ablations": ablations,
}

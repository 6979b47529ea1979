"""The field as features of boosted trees, where only a viewer's last few likes are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from train.interference.lift import rank, told
from train.interference.parts.features import ARMS, PAIRS, Maker, arms_section
from train.interference.study import World
from train.report_tables import Lines

SETTINGS = ("factors", "encode", "lift", "lift_sets", "text_lift_sets")


def results(world: World) -> dict[str, Any]:
    """Set -> space -> arms and differences."""
    config = world.config
    most = config.lift.cold_history
    found: dict[str, Any] = {}
    for name, ratings in world.here(config.lift_sets).items():
        spaces: dict[str, NDArray | None] = {"als": None}
        if name in config.text_lift_sets and (texts := world.texts(name)) is not None:
            spaces["text"] = texts
        found[name] = {
            space: told(
                rank(ratings, config.lift, ARMS, Maker(ratings, config, vectors, cold=True), most),
                PAIRS,
            )
            for space, vectors in spaces.items()
        }
    return {"sets": found, "num_repeats": config.lift.num_repeats, "cold_history": most}


def section(part: Mapping[str, Any]) -> Lines:
    """The cold-start claim."""
    lines = [
        "## Cold start",
        "",
        f"As above, with the newest {part['cold_history']} likes of each viewer and without the "
        "viewer's own factors. The claim: directions at random add .030 of long-tail recall, on "
        "ML-100K. Vectors of posts were learned with the viewers' older ratings among all others, "
        "so posts are not cold, viewers are.",
        "",
    ]
    return lines + arms_section(part["sets"])

"""Published weights of actions, by name: what each act is worth to a feed, per unit of probability.

An action that a preset does not name weighs nothing. Continuous ones are per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pipelines.schema import ACTIONS

Preset = Literal["x-algorithm-2026", "heavy-ranker-2023"]

PRESETS: Mapping[Preset, Mapping[str, float]] = {
    # The defaults of August 2026, which stand in schema.ACTIONS.
    "x-algorithm-2026": {action.name: action.weight for action in ACTIONS},
    # The ranker published in 2023. Its one head for negative feedback (-74) covers three of our
    # actions, of which a viewer does one. A reply that the author answers (75) is no action here.
    "heavy-ranker-2023": {
        "favorite": 0.5,
        "reply": 13.5,
        "repost": 1.0,
        "click": 11.0,  # into a conversation, to reply or like there
        "profile_click": 12.0,
        "vqv": 0.005,
        "not_interested": -74.0,
        "block_author": -74.0,
        "mute_author": -74.0,
        "report": -369.0,
    },
}

"""How the interference field enters a feed: what a bundle says of it."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from configs import Config
from train.models.fractal.config import FieldConfig

Space = Literal["two_tower", "content"]


class InterferenceBlend(Config):
    """The field that a bundle's feed computes, and its weight."""

    alpha: NonNegativeFloat = 0.0  # worth of a field of 1, beside a post's predicted value
    space: Space = "two_tower"  # whose vectors of posts: the post tower's, or the texts'
    max_history: PositiveInt = 100  # newest liked posts that send waves
    field: FieldConfig = FieldConfig()

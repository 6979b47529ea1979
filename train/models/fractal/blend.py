"""How the interference field enters a feed: what a bundle says of it."""

from __future__ import annotations

from pydantic import PositiveInt

from configs import Config
from pipelines.feed.services import Space
from train.models.fractal.config import Amount, FieldConfig


class InterferenceBlend(Config):
    """The field that a bundle's feed computes, and its weight."""

    alpha: Amount = 0.0  # worth of a field of 1, beside a post's predicted value
    space: Space = "two_tower"  # whose vectors of posts
    max_history: PositiveInt = 100  # newest liked posts that send waves
    field: FieldConfig = FieldConfig()

"""Settings of an interference field."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from configs import Config

Amount = Annotated[FiniteFloat, Field(ge=0)]


class FieldConfig(Config):
    """How a field is made of a history. The published prototype is `PUBLISHED`."""

    # S; each wavelength is half the one before, and their squares must be numbers in float32.
    num_scales: Annotated[PositiveInt, Field(le=32)] = 4
    num_waves: PositiveInt = 8  # K
    waves: Literal["random", "pca"] = "random"  # the same for all viewers, or a history's own
    # λ_1; None = twice the median distance.
    base_scale: Annotated[FiniteFloat, Field(ge=1e-6)] | None = None
    # Wavelengths at these quantiles of a history's distances instead, longest first.
    quantiles: tuple[float, ...] | None = None
    scale_weights: tuple[NonNegativeFloat, ...] | None = None  # any sum; None = halved each time,
    dimension_weight: Amount = 1.0  # β: and raised by this times ρ towards the last
    destructive_gain: Amount = 0.75  # η: totals below 0 grow by η (1 - ρ)
    # Zero vectors neither send nor receive, equal points count once in the dimension.
    guarded: bool = True
    envelope: bool = True  # off: waves do not fade with distance
    phase: bool = True  # off: a sum of Gaussian kernels
    # Events after which an amplitude has halved.
    half_life: Annotated[FiniteFloat, Field(gt=0)] | None = None
    signed: bool = False  # negative amplitudes are allowed, and make columns of their own
    normalised: bool = True  # amplitudes of a history sum to 1
    seed: NonNegativeInt = 0  # of random directions and of long histories' points

    @model_validator(mode="after")
    def _fits(self) -> FieldConfig:
        if self.quantiles is not None:
            outside = [q for q in self.quantiles if not 0 <= q <= 1]
            if outside or list(self.quantiles) != sorted(self.quantiles, reverse=True):
                raise ValueError(f"quantiles must fall, within 0 and 1, not {self.quantiles}")
            if len(self.quantiles) != self.num_scales:
                raise ValueError(f"{len(self.quantiles)} quantiles for {self.num_scales} scales")
        weights = self.scale_weights
        if weights is not None:
            if len(weights) != self.num_scales:
                raise ValueError(f"{len(weights)} scale_weights for {self.num_scales} scales")
            if not 0 < sum(weights) < math.inf:
                raise ValueError(f"scale_weights must have a positive finite sum, not {weights}")
        return self

    def weighing(self, scale_weights: tuple[float, ...] | None) -> FieldConfig:
        """The same with these scale weights, None = as they are; checked as settings are."""
        if scale_weights is None:
            return self
        return FieldConfig.model_validate(self.model_dump() | {"scale_weights": scale_weights})


GUARDED = FieldConfig()
PUBLISHED = FieldConfig(waves="pca", guarded=False)

"""What a search may set: ranges and choices, as a file says them and as Optuna knows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, FiniteFloat, model_validator

from configs import Config


class Range(Config):
    """Numbers from `low` to `high`, both included."""

    low: FiniteFloat
    high: FiniteFloat
    scale: Literal["linear", "log", "integer"] = "linear"
    # Only low, low + step, … up to high; not with log.
    step: Annotated[FiniteFloat, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.scale == "log" and self.low <= 0):
            raise ValueError(
                f"low {self.low} and high {self.high}: need low < high, 0 < low if log"
            )
        whole = [x for x in (self.low, self.high, self.step) if x is not None]
        if self.scale == "integer" and any(x != int(x) for x in whole):
            raise ValueError(f"integers cannot go from {self.low} to {self.high}, {self.step}")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"step {self.step}: leads beyond high {self.high} from low {self.low}")
        if self.scale == "log" and self.step is not None:
            raise ValueError(f"step {self.step}: a log scale has none")
        return self

    @property
    def numeric(self) -> bool:
        """Whether values have an order."""
        return True

    @property
    def last(self) -> float:
        """The largest value: `high`, or where the steps end."""
        if self.step is None:
            return self.high
        low, high, step = (Decimal(str(x)) for x in (self.low, self.high, self.step))
        return float(low + (high - low) // step * step)

    def distribution(self) -> BaseDistribution:
        """The same as Optuna knows it."""
        if self.scale == "integer":
            return IntDistribution(int(self.low), int(self.last), step=int(self.step or 1))
        return FloatDistribution(self.low, self.last, log=self.scale == "log", step=self.step)

    def value(self, drawn: Any) -> Any:
        """The setting that what Optuna drew stands for."""
        return drawn


class Choice(Config):
    """One of several values."""

    choices: list[Any] = Field(min_length=2)

    @property
    def numeric(self) -> bool:
        """Whether values have an order."""
        return False

    def distribution(self) -> BaseDistribution:
        """The same as Optuna knows it; lists and mappings as JSON, for it keeps only scalars."""
        return CategoricalDistribution([_scalar(value) for value in self.choices])

    def value(self, drawn: Any) -> Any:
        """The setting that what Optuna drew stands for."""
        return self.choices[[_scalar(value) for value in self.choices].index(drawn)]


Space = Mapping[str, Range | Choice]  # setting, as a.b -> where it may lie


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The whole space as Optuna knows it."""
    return {name: where.distribution() for name, where in space.items()}


def values(space: Space, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a trial's parameters stand for."""
    return {name: space[name].value(value) for name, value in drawn.items()}


def sample(space: Space, seed: int = 0) -> dict[str, Any]:
    """Settings at random, to see whether they would be accepted."""
    rng = np.random.default_rng(seed)
    return {
        name: where.choices[int(rng.integers(len(where.choices)))]
        if isinstance(where, Choice)
        else _at(where, float(rng.random()))
        for name, where in space.items()
    }


def extremes(space: Space) -> Iterator[dict[str, Any]]:
    """A sample, and the same with one setting at an end of its range, or at one of its choices."""
    usual = sample(space)
    yield usual
    for name, where in space.items():
        ends = where.choices if isinstance(where, Choice) else [_at(where, 0.0), _at(where, 1.0)]
        for value in ends:
            yield usual | {name: value}


def _at(where: Range, share: float) -> float | int:
    if where.scale == "log":
        return min(where.high, float(where.low * (where.high / where.low) ** share))
    steps = where.step or (1.0 if where.scale == "integer" else 0.0)
    if not steps:
        return where.low + share * (where.high - where.low)
    value = where.low + steps * round(share * (where.last - where.low) / steps)
    return int(value) if where.scale == "integer" else value


def _scalar(value: Any) -> Any:
    return (
        value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
    )

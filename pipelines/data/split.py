"""Cuts the log in time: train, then validate, then test."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import AwareDatetime, Strict, model_validator

from configs import Config

Start = AwareDatetime | Annotated[dt.date, Strict()]


class SplitSettings(Config):
    """Where validate and test begin; all before is train.

    Both are instants with a time zone, held against `shown_at_ms`, or both are plain days,
    held against `log_date`: the day under which the log filed a row, in the log's own time.
    """

    validate_from: Start
    test_from: Start

    @model_validator(mode="after")
    def _ordered(self) -> SplitSettings:
        kinds = {
            isinstance(self.validate_from, dt.datetime),
            isinstance(self.test_from, dt.datetime),
        }
        if len(kinds) > 1:
            raise ValueError("validate_from and test_from must both be days or both be instants")
        if self.validate_from >= self.test_from:
            raise ValueError(f"test_from {self.test_from} must be after {self.validate_from}")
        return self

    @property
    def column(self) -> str:
        """The column of events that decides."""
        return "shown_at_ms" if isinstance(self.validate_from, dt.datetime) else "log_date"


def to_ms(instant: dt.datetime) -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return round(instant.timestamp() * 1000)


def assign(events: pa.Table, settings: SplitSettings) -> NDArray[np.int8]:
    """Index into SPLITS of each row; its deciding column has no null. int8 [n]."""
    column = events[settings.column]
    if settings.column == "log_date":
        at = column.cast(pa.int32()).to_numpy()
        starts = [_days(settings.validate_from), _days(settings.test_from)]
    else:
        at = column.to_numpy()
        starts = [_ms(settings.validate_from), _ms(settings.test_from)]
    return np.searchsorted(starts, at, side="right").astype(np.int8)


def _days(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days


def _ms(instant: dt.date) -> int:
    assert isinstance(instant, dt.datetime)
    return to_ms(instant)

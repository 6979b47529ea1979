"""Cuts the log in time: train, then validate, then test; or leaves out each viewer's newest."""

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

    validate_from: Start | None = None
    test_from: Start | None = None
    # Instead of both: each viewer's newest event is test, the one before it validate. Published
    # figures of next-item models stand on this, though training then sees what others did later.
    leave_last_out: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> SplitSettings:
        starts = (self.validate_from, self.test_from)
        if self.leave_last_out:
            if starts != (None, None):
                raise ValueError("leave_last_out stands instead of validate_from and test_from")
            return self
        if self.validate_from is None or self.test_from is None:
            raise ValueError("give validate_from and test_from, or leave_last_out: true")
        if len({isinstance(start, dt.datetime) for start in starts}) > 1:
            raise ValueError("validate_from and test_from must both be days or both be instants")
        if self.validate_from >= self.test_from:
            raise ValueError(f"test_from {self.test_from} must be after {self.validate_from}")
        return self

    @property
    def column(self) -> str:
        """The column of events that decides."""
        by_day = not self.leave_last_out and not isinstance(self.validate_from, dt.datetime)
        return "log_date" if by_day else "shown_at_ms"


def to_ms(instant: dt.datetime) -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return round(instant.timestamp() * 1000)


def assign(events: pa.Table, settings: SplitSettings) -> NDArray[np.int8]:
    """Index into SPLITS of each row; its deciding column has no null. int8 [n].

    With leave_last_out all are train: `leave_last_out` settles them when a viewer's are together.
    """
    column = events[settings.column]
    starts = (settings.validate_from, settings.test_from)
    if settings.leave_last_out:
        return np.zeros(len(column), np.int8)
    if settings.column == "log_date":
        at, bounds = column.cast(pa.int32()).to_numpy(), [_days(start) for start in starts]
    else:
        at, bounds = column.to_numpy(), [_ms(start) for start in starts]
    return np.searchsorted(bounds, at, side="right").astype(np.int8)


def leave_last_out(user_id: NDArray[np.int64]) -> NDArray[np.int8]:
    """Split of events sorted by viewer and time: the last is test, the one before validate.

    int64 [n] -> index into SPLITS, int8 [n].
    """
    left = np.searchsorted(user_id, user_id, side="right") - 1 - np.arange(len(user_id))
    return np.maximum(2 - left, 0).astype(np.int8)


def _days(day: dt.date | None) -> int:
    assert day is not None
    return (day - dt.date(1970, 1, 1)).days


def _ms(instant: dt.date | None) -> int:
    assert isinstance(instant, dt.datetime)
    return to_ms(instant)

"""Where the log is cut."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from configs import ConfigError, check
from pipelines.data.split import SplitSettings, assign, leave_last_out, to_ms


def test_instants_cut_by_time_shown():
    """A row at the very instant belongs to the later split."""
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    settings = SplitSettings(validate_from=noon, test_from=noon + dt.timedelta(hours=1))
    start = to_ms(noon)
    events = pa.table({"shown_at_ms": [start - 1, start, start + 3_599_999, start + 3_600_000]})
    assert settings.column == "shown_at_ms"
    assert assign(events, settings).tolist() == [0, 1, 1, 2]


def test_days_cut_by_log_date():
    """Plain days are held against the log's own day, whatever the time shown."""
    days = [dt.date(2022, 5, day) for day in (5, 6, 7, 8)]
    settings = SplitSettings(validate_from=days[1], test_from=days[2])
    events = pa.table({"log_date": pa.array(days, pa.date32())})
    assert settings.column == "log_date"
    assert assign(events, settings).tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("validate_from", "test_from", "message"),
    [
        (dt.date(2022, 5, 7), dt.date(2022, 5, 6), "must be after"),
        (dt.date(2022, 5, 6), dt.datetime(2022, 5, 7, tzinfo=dt.UTC), "both be days"),
        (dt.datetime(2022, 5, 6), dt.datetime(2022, 5, 7), "timezone"),
    ],
)
def test_splits_that_make_no_sense(validate_from, test_from, message):
    """Starts out of order, of two kinds or without a zone are refused before any work."""
    values = {"validate_from": validate_from, "test_from": test_from}
    with pytest.raises(ConfigError, match=message):
        check(values, SplitSettings, "split")


def test_the_last_of_each_viewer_is_left_out():
    """Of each viewer the newest event is test, the one before validate, all others train."""
    user_id = np.array([1, 1, 1, 1, 2, 2, 3])
    assert leave_last_out(user_id).tolist() == [0, 0, 1, 2, 1, 2, 2]


def test_one_way_to_split():
    """Starts and leave_last_out exclude each other, and one of them is needed."""
    with pytest.raises(ConfigError, match="instead of validate_from"):
        check({"test_from": dt.date(2022, 5, 7), "leave_last_out": True}, SplitSettings, "split")
    with pytest.raises(ConfigError, match="or leave_last_out"):
        check({}, SplitSettings, "split")

"""Engagements become the history that a log of them would have become."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.features import History, history_rows
from pipelines.schema import ACTION_NAMES
from serve.stores.viewers.history import history_of
from tests.serve.viewers.contract import engaged, table

ROWS = st.lists(
    st.builds(
        engaged,
        st.uuids().map(str),
        st.integers(1, 20),
        post_id=st.integers(1, 5),
        action=st.sampled_from(["favorite", "reply", "mute_author", "dwell_time"]),
        dwell_s=st.none() | st.integers(0, 100).map(float),
        surface=st.none() | st.integers(0, 15),
    ),
    max_size=12,
).map(lambda rows: sorted(rows, key=lambda row: (row["at_ms"], row["event_id"])))


@given(ROWS, st.integers(0, 20), st.integers(0, 20))
def test_a_history_has_one_entry_a_post(rows, after_ms, before_ms):
    """An entry joins all that was done to a post in that time, and stands where it began."""
    history = history_of(1, table(rows), after_ms, before_ms)
    entries: dict[int, list[dict]] = {}
    for row in rows:
        if after_ms < row["at_ms"] < before_ms:
            entries.setdefault(row["post_id"], []).append(row)
    assert history.post_id.tolist() == list(entries)
    for place, done in enumerate(entries.values()):
        names = {row["action"] for row in done} - {"dwell_time"}
        seconds = [row["dwell_s"] for row in done if row["dwell_s"] is not None]
        assert history.did[place] == sum(1 << ACTION_NAMES.index(name) for name in names)
        assert history.surface[place] == (done[0]["surface"] or 0)
        assert history.at_ms[place] == done[0]["at_ms"]
        dwell_s = sum(seconds) if seconds else np.nan
        assert history.dwell_s[place] == pytest.approx(dwell_s, nan_ok=True)
    assert not history.author_id.any()


@given(ROWS)
def test_a_history_has_the_columns_of_any(rows):
    """Models take it as they take a bundle's: the same types, alone and after another."""
    history, none = history_of(1, table(rows), 0, 21), History.empty(1)
    for name, values in vars(none).items():
        if name != "user_id":
            assert getattr(history, name).dtype == values.dtype
            np.testing.assert_array_equal(getattr(none.then(history), name), getattr(history, name))
    both = history_rows([history.then(history)], [21])
    assert both["history_post_id"].to_pylist() == [history.post_id.tolist() * 2]


def test_an_action_of_another_version_is_none():
    """What this code has no name for is no action, and its post was met all the same."""
    history = history_of(1, table([engaged("a", 5, action="applaud")]), 0, 9)
    assert (history.post_id.tolist(), history.did.tolist()) == ([1], [0])

"""Visits, histories and profiles against the plain definition, row by row."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.examples import ExampleSettings, Log, examples, profiles
from pipelines.data.gather import to_log
from pipelines.data.scatter import PACKED
from pipelines.schema import HISTORIES, SPLITS

CUT = ExampleSettings(session_gap_s=3, max_candidates=3, history_len=4, profile_len=5)
# user, second, split: few of each, so that ties, long visits and mixed splits are common.
ROWS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(0, 2)), min_size=1, max_size=40
)
PRIOR = st.dictionaries(
    st.integers(1, 4), st.tuples(st.integers(1, 20), st.integers(0, 6)), max_size=3
)


def packed(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    """Rows of a log; the post id of each is its place + 1."""
    size = len(rows)
    columns = {
        "user_id": [u for u, _, _ in rows],
        "post_id": list(range(1, size + 1)),
        "shown_at_ms": [s * 1000 for _, s, _ in rows],
        "did": [at % 4 for at in range(size)],
        "observed": [7] * size,
        "dwell_s": [float(at) for at in range(size)],
        "surface": [1] * size,
        "split": [p for _, _, p in rows],
    }
    return pl.DataFrame(
        pa.table({f.name: pa.array(columns.get(f.name, [None] * size), f.type) for f in PACKED})
    )


def make_log(rows: list[tuple[int, int, int]], prior: dict[int, tuple[int, int]]) -> Log:
    """A log with, per viewer, entries from before it: as of a second, so many."""
    histories = [
        {
            "user_id": user,
            "as_of_ms": second * 1000,
            "post_ids": [1000 * user + i for i in range(n)],
            "did": [1] * n,
        }
        for user, (second, n) in prior.items()
    ]
    ids = np.arange(1, len(rows) + 1)
    return to_log(packed(rows), pa.Table.from_pylist(histories, HISTORIES.arrow), (ids, ids + 500))


def flat(log: Log, split: str) -> list[dict]:
    """Examples of one split as dictionaries."""
    return [row for table in examples(log, split, CUT) for row in table.to_pylist()]


@given(ROWS, PRIOR)
@settings(deadline=None, max_examples=40)
def test_every_history_entry_is_older_than_its_example(rows, prior):
    """Nothing that happened at or after the first candidate is in the history."""
    log = make_log(rows, prior)
    shown = {at + 1: second * 1000 for at, (_, second, _) in enumerate(rows)}
    for split in SPLITS:
        for example in flat(log, split):
            for post, at_ms in zip(
                example["history_post_id"], example["history_at_ms"], strict=True
            ):
                as_of = prior[post // 1000][0] * 1000 if post >= 1000 else None
                assert (as_of is None and at_ms == shown[post] < example["at_ms"]) or (
                    at_ms == 0 and as_of <= example["at_ms"]
                )


@given(ROWS, PRIOR)
@settings(deadline=None, max_examples=40)
def test_every_event_is_a_candidate_of_exactly_one_example(rows, prior):
    """Flattening the candidates of all splits gives the log back, in its own split."""
    log = make_log(rows, prior)
    found = [
        (e["user_id"], ms, split, post, did, observed, dwell, author)
        for split in SPLITS
        for e in flat(log, split)
        for ms, post, did, observed, dwell, author in zip(
            *(e[c] for c in ("shown_at_ms", "post_id", "did", "observed", "dwell_s", "author_id")),
            strict=True,
        )
    ]

    expected = [
        (u, s * 1000, SPLITS[p], at + 1, at % 4, 7, float(at), at + 501)
        for at, (u, s, p) in enumerate(rows)
    ]
    assert sorted(found) == sorted(expected)


@given(ROWS, PRIOR)
@settings(deadline=None, max_examples=40)
def test_examples_are_visits(rows, prior):
    """A viewer's impressions of one split are cut at pauses and at the longest length only."""
    log = make_log(rows, prior)
    for split in SPLITS:
        found = flat(log, split)
        for user in {e["user_id"] for e in found}:
            mine = [e["shown_at_ms"] for e in found if e["user_id"] == user]
            assert mine == sorted(mine, key=lambda times: times[0])
            for times in mine:
                assert len(times) <= CUT.max_candidates
                assert all(np.diff(times) <= CUT.session_gap_s * 1000)
            for one, other in itertools.pairwise(mine):
                full = len(one) == CUT.max_candidates
                assert full or other[0] - one[-1] > CUT.session_gap_s * 1000


@given(ROWS, PRIOR)
@settings(deadline=None, max_examples=40)
def test_histories_are_the_newest_events(rows, prior):
    """A history holds the newest entries before its example, oldest first, and as many as fit."""
    log = make_log(rows, prior)
    for split in SPLITS:
        for example in flat(log, split):
            user = example["user_id"]
            older = (log.user_id == user) & (log.sort_ms < example["at_ms"])
            assert example["history_post_id"] == log.post_id[older][-CUT.history_len :].tolist()


@given(ROWS, PRIOR)
@settings(deadline=None, max_examples=40)
def test_profiles_are_the_end_of_the_log(rows, prior):
    """A profile holds a viewer's newest entries of all splits; no viewer is left out."""
    log = make_log(rows, prior)
    found = {r["user_id"]: r for table in profiles(log, CUT) for r in table.to_pylist()}
    users = {u for u, _, _ in rows} | {u for u, (_, n) in prior.items() if n}
    assert set(found) == users
    for user in users:
        entries = log.post_id[log.user_id == user][-CUT.profile_len :]
        assert found[user]["history_post_id"] == entries.tolist()


@pytest.mark.parametrize("history_len", [0, 1])
def test_short_histories(history_len):
    """A history can be switched off, or kept to one event."""
    log = make_log([(1, 1, 0), (1, 10, 0)], {})
    cut = ExampleSettings(session_gap_s=3, history_len=history_len)
    rows = [row for table in examples(log, "train", cut) for row in table.to_pylist()]
    assert [row["history_post_id"] for row in rows] == [[], [1][:history_len]]


def test_what_was_not_measured_is_said_so():
    """A missing dwell is NaN, a missing surface 0, an author that is not known 0."""
    row = packed([(1, 1, 0)]).with_columns(
        dwell_s=pl.lit(None, pl.Float32), surface=pl.lit(None, pl.Int16)
    )
    none = np.empty(0, np.int64)
    log = to_log(row, HISTORIES.arrow.empty_table(), (none, none))
    assert np.isnan(log.dwell_s[0])
    assert (log.surface[0], log.author_id[0]) == (0, 0)

"""Each kind of bad input, and the error that names its place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data.job import prepare
from pipelines.data.reader import InputError, MissingInputError

from .small_log import (
    EVENTS_ROWS,
    NOON_MS,
    NOW,
    POSTS_ROWS,
    config,
    event,
    write_lines,
    write_parquet,
    write_small,
)

NOW_MS = int(NOW.timestamp() * 1000)
FUTURE_MS = NOON_MS + 30 * 86_400_000
# What the third event is made, and what the error says after "…events.parquet: row 3, ".
BAD_VALUES = {
    "null": ({"user_id": None}, "column user_id: None: null; this column must have a value"),
    "id below one": ({"user_id": 0}, "column user_id: 0: too small; allowed: at least 1"),
    "negative dwell": ({"dwell_s": -1.0}, "column dwell_s: -1.0: too small; allowed: not negative"),
    "dwell not finite": ({"dwell_s": float("inf")}, "column dwell_s: inf: not finite"),
    "dwell beyond float": ({"dwell_s": 1e300}, "column dwell_s: 1e+300: too large; allowed: 0.."),
    "surface": ({"surface": 16}, "column surface: 16: too large; allowed: 0..15"),
    "future": (
        {"shown_at_ms": FUTURE_MS},
        f"column shown_at_ms: {FUTURE_MS}: in the future; now is {NOW_MS}",
    ),
    "before 1970": ({"shown_at_ms": -5}, "column shown_at_ms: -5: too small"),
    "dangling post": (
        {"post_id": 99},
        "column post_id: 99: dangling id: not among the 6 rows of posts",
    ),
    "dangling user": (
        {"user_id": 3},
        "column user_id: 3: dangling id: not among the 2 rows of users",
    ),
}


def bad_small(folder: Path, change: dict) -> Path:
    """The small log with its third event changed; dwell_s is of double precision."""
    write_small(folder)
    rows = [{**row, "surface": 1} for row in EVENTS_ROWS]
    rows[2] |= change
    return write_parquet(folder / "events.parquet", rows, dwell_s=pa.float64())


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_bad_value(kind, tmp_path):
    """A value against the contract stops the run; file, row, column, value and rule are named."""
    change, message = BAD_VALUES[kind]
    path = bad_small(tmp_path, change)
    with pytest.raises(InputError, match=re.escape(f"{path}: row 3, {message}")):
        prepare(config(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_max_bad_rows_lets_the_run_go_on(kind, tmp_path):
    """Up to `max_bad_rows` rows are left out, listed with their reason, and counted."""
    change, message = BAD_VALUES[kind]
    path = bad_small(tmp_path, change)
    manifest = prepare(config(tmp_path, check={"max_bad_rows": 1}))
    row = pl.read_parquet(tmp_path / "out/rejected/events.parquet").row(0, named=True)
    said = "column {column}: {value}: {reason}".format(**row)
    assert (row["file"], row["row"]) == (str(path), 3)
    assert said.startswith(message)
    assert manifest["rows"]["events"] == {"read": 10, "duplicates": 0, "rejected": 1, "kept": 9}


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("clik", pa.bool_(), "unknown column 'clik'; did you mean 'click'?"),
        ("user_id", pa.string(), "column 'user_id' is string; events need int64"),
        ("dwell_s", pa.string(), "column 'dwell_s' is string; events need float"),
        ("click", pa.float64(), "column 'click' is double; events need bool"),
    ],
)
def test_bad_column(name, dtype, message, tmp_path):
    """A column of a wrong name or type is an error of its file, found before any row is read."""
    rows = [{k: v for k, v in row.items() if k != name} for row in EVENTS_ROWS]
    rows = [{**row, name: None} for row in rows]
    path = write_parquet(write_small(tmp_path) / "events.parquet", rows, **{name: dtype})
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        prepare(config(tmp_path))


def test_missing_column(tmp_path):
    """A required column that is not there is named, with the one that may be meant."""
    rows = [{"userid": 1, "post_id": 11, "shown_at_ms": NOON_MS}]
    path = write_parquet(tmp_path / "events.parquet", rows)
    with pytest.raises(InputError, match=r"unknown column 'userid'; did you mean 'user_id'"):
        prepare(config(tmp_path))
    rows = [{"user_id": 1, "post_id": 11}]
    write_parquet(path, rows)
    with pytest.raises(InputError, match="column 'shown_at_ms' is missing"):
        prepare(config(tmp_path))


def test_integers_of_any_width_are_taken(tmp_path):
    """Narrow integers, and 0 and 1 for false and true, mean the same as the declared types."""
    write_parquet(tmp_path / "events.parquet", EVENTS_ROWS)
    plain = prepare(config(tmp_path))
    narrow = {"user_id": pa.int8(), "post_id": pa.uint16(), "click": pa.int8()}
    rows = [{**row, "click": int(row["click"])} for row in EVENTS_ROWS]
    write_parquet(tmp_path / "events.parquet", rows, **narrow)
    assert prepare(config(tmp_path))["fingerprint"] == plain["fingerprint"]


def test_seconds_as_integers_are_taken(tmp_path):
    """Whole seconds, even those that float32 rounds, and half floats are times spent."""
    for value, dtype in ((2**24 + 1, pa.int64()), (np.float16(2), pa.float16())):
        rows = [{**row, "dwell_s": value} for row in EVENTS_ROWS]
        write_parquet(tmp_path / "events.parquet", rows, dwell_s=dtype)
        assert prepare(config(tmp_path))["rows"]["events"]["kept"] == 10


@pytest.mark.parametrize("user_id", [2**63, 2**64 - 1])
def test_id_beyond_int64(user_id, tmp_path):
    """An unsigned id that int64 cannot hold is refused; its neighbours are found as before."""
    write_small(tmp_path)
    rows = [dict(row) for row in EVENTS_ROWS]
    rows[2]["user_id"] = user_id
    path = write_parquet(tmp_path / "events.parquet", rows, user_id=pa.uint64())
    message = f"{path}: row 3, column user_id: {user_id}: too large; allowed: 1..{2**63 - 1}"
    with pytest.raises(InputError, match=re.escape(message)):
        prepare(config(tmp_path))
    manifest = prepare(config(tmp_path, check={"max_bad_rows": 1}))
    assert manifest["rows"]["events"]["kept"] == 9


def test_topic_beyond_int64(tmp_path):
    """An unsigned id inside a list that int64 cannot hold is refused."""
    rows = [{**row, "topic_ids": [2**63]} for row in POSTS_ROWS]
    write_small(tmp_path)
    write_parquet(tmp_path / "posts.parquet", rows, topic_ids=pa.list_(pa.uint64()))
    with pytest.raises(InputError, match=r"row 1, column topic_ids: \[9223372036854775808\]"):
        prepare(config(tmp_path))


def test_id_column_without_values(tmp_path):
    """A column of Arrow's null type, as pandas writes an empty one, is nulls, not a traceback."""
    rows = [{**row, "user_id": None} for row in EVENTS_ROWS]
    write_small(tmp_path)
    write_parquet(tmp_path / "events.parquet", rows, user_id=pa.null())
    with pytest.raises(InputError, match="row 1, column user_id: None: null"):
        prepare(config(tmp_path))


def test_column_that_is_there_twice(tmp_path):
    """Two columns of one name stop the run: neither is chosen."""
    names = ["user_id", "post_id", "shown_at_ms", "post_id"]
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table([[1], [11], [NOON_MS], [12]], names=names), path)
    with pytest.raises(InputError, match=re.escape(f"{path}: column 'post_id' is there twice")):
        prepare(config(tmp_path))


def test_flag_that_is_neither(tmp_path):
    """An integer flag other than 0 and 1 is refused."""
    rows = [{**row, "click": 2} for row in EVENTS_ROWS]
    write_parquet(tmp_path / "events.parquet", rows, click=pa.int8())
    with pytest.raises(InputError, match=r"row 1, column click: 2: too large; allowed: 0\.\.1"):
        prepare(config(tmp_path))


def test_unreadable_file(tmp_path):
    """A file that is no Parquet stops the run whatever `max_bad_rows` is."""
    (tmp_path / "events.parquet").write_bytes(b"PAR1 it was")
    with pytest.raises(InputError, match=r"events\.parquet: not a readable Parquet file"):
        prepare(config(tmp_path, check={"max_bad_rows": 9}))


def test_missing_file(tmp_path):
    """A table that is not there is named, with the setting that points to it."""
    reader = {"events": str(tmp_path / "nothing")}
    with pytest.raises(MissingInputError, match=r"nothing: no such file; reader\.events must be"):
        prepare(config(tmp_path, reader=reader))


def test_key_that_names_two_rows(tmp_path):
    """Rows of one event_id that differ are refused but the first, whoever the viewers are."""
    rows = [{**row, "event_id": f"e{at}"} for at, row in enumerate(EVENTS_ROWS)]
    rows[4]["event_id"] = rows[6]["event_id"] = "e1"  # of another viewer, of the same
    path = write_parquet(write_small(tmp_path) / "events.parquet", rows)
    message = f"{path}: row 5, column event_id: 'e1': duplicate key: {path} row 2 differs"
    with pytest.raises(InputError, match=re.escape(message)):
        prepare(config(tmp_path))
    manifest = prepare(config(tmp_path, check={"max_bad_rows": 2}))
    assert manifest["rows"]["events"] == {"read": 10, "duplicates": 0, "rejected": 2, "kept": 8}


def test_equal_rows_are_one(tmp_path):
    """A row that is there again, in any file, is left out and counted; one that differs stays."""
    write_parquet(tmp_path / "events/a.parquet", EVENTS_ROWS[:6])
    other = {**EVENTS_ROWS[0], "click": not EVENTS_ROWS[0]["click"]}
    write_parquet(tmp_path / "events/b.parquet", [*EVENTS_ROWS[4:], EVENTS_ROWS[0], other])
    counts = prepare(config(tmp_path))["rows"]["events"]
    assert counts == {"read": 14, "duplicates": 3, "rejected": 0, "kept": 11}


def test_post_that_is_there_twice(tmp_path):
    """Equal posts are one; a post with two authors is refused, and both rows are named."""
    write_small(tmp_path)
    path = write_parquet(tmp_path / "posts.parquet", [*POSTS_ROWS, POSTS_ROWS[0]])
    counts = prepare(config(tmp_path))["rows"]["posts"]
    assert counts == {"read": 7, "duplicates": 1, "rejected": 0, "kept": 6}
    write_parquet(path, [*POSTS_ROWS, {"post_id": 11, "author_id": 1}])
    message = f"{path}: row 7, column post_id: 11: duplicate key: {path} row 1 differs"
    with pytest.raises(InputError, match=re.escape(message)):
        prepare(config(tmp_path))


def test_topic_inside_a_list(tmp_path):
    """A topic id below one is found inside its list."""
    rows = [{**row, "topic_ids": [3, row["post_id"] - 12]} for row in POSTS_ROWS]
    write_parquet(write_small(tmp_path) / "posts.parquet", rows)
    with pytest.raises(InputError, match=r"row 1, column topic_ids: \[3, -1\]: holds an entry"):
        prepare(config(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": "x", "post_id": 11, "shown_at_ms": 5}', "user_id: 'x': expected int64"),
        ('{"user_id": 1, "post_id": 1.5, "shown_at_ms": 5}', "post_id: 1.5: expected int64"),
        ('{"user_id": 1, "post_id": 11, "surface": 70000}', "surface: 70000: expected int16"),
        ('{"user_id": 1, "post_id": 11, "log_date": "May"}', "log_date: 'May': expected date32"),
        ('{"user_id": 1, "post_id": 11, "click": 1}', "click: 1: expected bool"),
        ('{"user_id": 1, "post_id": 11}', "shown_at_ms: None: null"),
        ('{"user_id": 1, "post_id": 11', '(line): \'{"user_id": 1, "post_id": 11\''),
        ("[1, 2]", "(line): [1, 2]: expected an object"),
        ('{"log_date": "20260106"}', "log_date: '20260106': expected date32"),
        ('{"click": true, "click": true}', '(line): \'{"click": true, "click": true}\': cannot'),
        ('{"event_id": "\\ud800"}', '(line): \'{"event_id": "\\\\ud800"}\': cannot be parsed'),
        ("[" * 9999, "(line): '" + "[" * 80),
    ],
)
def test_bad_line(line, message, tmp_path):
    """A line of JSON that is broken or of a wrong type is named by its number."""
    path = write_lines(tmp_path / "events.jsonl", [*EVENTS_ROWS[:2], line, *EVENTS_ROWS[2:]])
    with pytest.raises(InputError, match=re.escape(f"{path}: row 3, column {message}")):
        prepare(config(tmp_path))
    counts = prepare(config(tmp_path, check={"max_bad_rows": 1}))["rows"]["events"]
    assert counts == {"read": 11, "duplicates": 0, "rejected": 1, "kept": 10}


def test_unknown_name_in_a_line(tmp_path):
    """A name that no column has stops the run, with the line and the near miss."""
    write_lines(tmp_path / "events.jsonl", [EVENTS_ROWS[0], event(1, 12, 1, favourite=True)])
    with pytest.raises(InputError, match="row 2: unknown column 'favourite'; did you mean 'favor"):
        prepare(config(tmp_path, check={"max_bad_rows": 9}))

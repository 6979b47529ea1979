"""What viewers said holds beside what they did, and comes from a file that may change."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feed.services import Graph
from serve.stores.preferences import SCHEMA, PreferenceError, PreferenceStore
from serve.stores.watched import Fixed, Watched

IDS = st.none() | st.lists(st.integers(1, 9), max_size=4)
LISTS = dict.fromkeys(SCHEMA.names[2:], IDS)
LISTS["muted_keywords"] = st.none() | st.lists(st.sampled_from(["cat", "a dog"]), max_size=2)
ROW = st.fixed_dictionaries(LISTS)


@given(st.dictionaries(st.integers(1, 6), ROW), st.integers(1, 7), st.lists(st.integers(1, 9)))
def test_preferences_are_added_to_the_graph(said, user_id, blocked):
    """Whoever is blocked, muted or subscribed to by either is, and nothing else changes."""
    rows = [{"user_id": one, **lists} for one, lists in said.items()]
    store = PreferenceStore(pa.Table.from_pylist(rows, SCHEMA))
    some = np.array([1, 2])
    graph = Graph(some, np.unique(np.array(blocked, np.int64)), some, some, some[:1], ("rain",))
    found = store.of(user_id).added_to(graph)
    mine = said.get(user_id, dict.fromkeys(LISTS))
    both = {
        "blocked": {*blocked, *(mine["blocked_author_ids"] or ())},
        "muted": {1, 2, *(mine["muted_author_ids"] or ())},
        "subscribed": {1, *(mine["subscribed_author_ids"] or ())},
        "followed": {1, 2},
        "mutual": {1, 2},
    }
    for name, expected in both.items():
        assert getattr(found, name).tolist() == sorted(expected)
    assert set(found.muted_keywords) == {"rain", *(mine["muted_keywords"] or ())}


def test_preferences_are_read_from_files(tmp_path):
    """Parquet and JSON lines say the same; lists may be left out."""
    rows = [{"user_id": 7, "muted_keywords": ["cat"]}, {"user_id": 5, "muted_keywords": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "preferences.parquet")
    (tmp_path / "preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("preferences.parquet", "preferences.jsonl"):
        store = PreferenceStore.read(tmp_path / name)
        assert store.of(7).muted_keywords == ("cat",)
        assert store.of(5).muted_keywords == ()
        assert len(store.of(7).blocked_author_ids) == 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"muted_word": ["a"]}, "muted_word: no such column; did you mean 'muted_keywords'?"),
        ({"user_id": 0}, "column user_id: ids are at least 1"),
        ({"user_id": None}, "expected the columns"),
        ({"blocked_author_ids": [0]}, "column blocked_author_ids: ids are at least 1"),
        ({"muted_keywords": ["a", None]}, "column muted_keywords: null in a list"),
        ({"user_id": 2}, "column user_id: 2 is there twice"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, said):
    """Whatever is wrong stops start-up with the file, the column and the near miss."""
    path = tmp_path / "preferences.parquet"
    rows = [{"user_id": 2}, {"user_id": 1, **row}]
    schema = pa.schema([*SCHEMA, ("muted_word", pa.list_(pa.string()))])
    fields = [pa.field(field.name, field.type) for field in schema if field.name in rows[1]]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), path)
    with pytest.raises(PreferenceError) as error:
        PreferenceStore.read(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


def number(path: str) -> int:
    """What a file says; ValueError if that is no number."""
    return int(Path(path).read_text())


def put(path: Path, text: str) -> None:
    """Another file in its place, at once."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def wait_until(holds: Callable[[], object]) -> None:
    """Look again until it does."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_a_changed_file_is_read_again(tmp_path):
    """The new one holds without a restart; a bad one, or none, changes nothing and is told."""
    path = tmp_path / "file"
    put(path, "1")
    watched = Watched(str(path), number, every_s=0.0)
    assert (watched.now, watched.problem) == (1, None)
    put(path, "2")
    wait_until(lambda: watched.now == 2)
    put(path, "two")
    wait_until(lambda: watched.now and watched.problem)
    assert "still using the file before: invalid literal" in watched.problem
    put(path, "3")
    wait_until(lambda: watched.now == 3 and watched.problem is None)
    aside = tmp_path / "aside"
    path.rename(aside)
    wait_until(lambda: watched.now and watched.problem)
    assert str(path) in watched.problem
    aside.rename(path)
    wait_until(lambda: watched.now and watched.problem is None)
    assert watched.now == 3


def test_a_file_is_looked_at_now_and_then(tmp_path, monkeypatch):
    """Between two looks asking costs no look at the disk."""
    path = tmp_path / "file"
    put(path, "1")
    watched = Watched(str(path), number, every_s=1000.0)
    monkeypatch.setattr(os, "stat", None)
    assert [watched.now for _ in range(3)] == [1, 1, 1]


def test_what_has_no_file_stays():
    """A store made in memory is watched like a file that never changes."""
    assert (Fixed("x").now, Fixed("x").problem) == ("x", None)


def test_a_first_file_that_is_bad_stops_start_up(tmp_path):
    """There is nothing to go on with."""
    put(tmp_path / "file", "one")
    with pytest.raises(ValueError, match="invalid literal"):
        Watched(str(tmp_path / "file"), number)

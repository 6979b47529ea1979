from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.feed.table import Candidates

ID_LISTS = st.lists(st.lists(st.integers(1, 12), unique=True, max_size=8), max_size=4)


def table(ids: list[int], **columns: list[float]) -> Candidates:
    """Posts with columns given as lists."""
    arrays = {name: np.array(values) for name, values in columns.items()}
    return Candidates({"post_id": np.array(ids, np.int64), **arrays})


@settings(deadline=None)  # a busy machine is no failure
@given(ID_LISTS)
def test_merge_keeps_one_row_a_post_and_all_that_sources_say(sources):
    """Merging equals a dictionary of dictionaries, in order of first appearance."""
    tables = [
        table(ids, **{f"rank{n}": np.arange(1, len(ids) + 1), f"value{n}": np.arange(len(ids)) / 3})
        for n, ids in enumerate(sources)
    ]
    merged = Candidates.merge(tables)
    assert merged.post_id.tolist() == list(dict.fromkeys(i for ids in sources for i in ids))
    for row, post_id in enumerate(merged.post_id.tolist()):
        for n, ids in enumerate(sources):
            rank, value = merged[f"rank{n}"][row], merged[f"value{n}"][row]
            if post_id in ids:
                assert (rank, value) == (ids.index(post_id) + 1, ids.index(post_id) / 3)
            else:
                assert rank == 0
                assert np.isnan(value)


def test_merge_refuses_what_it_could_only_guess():
    """A column in two tables, or a post twice in one, is an error."""
    with pytest.raises(ValueError, match="column 'a' is in two"):
        Candidates.merge([table([1], a=[1]), table([2], a=[1])])
    with pytest.raises(ValueError, match="a post twice"):
        Candidates.merge([table([1, 1])])


def test_columns_cannot_be_changed():
    """Writing into a column raises, and leaves the array it came from writeable."""
    mine = np.array([1.0, 2.0])
    posts = Candidates({"post_id": np.array([1, 2]), "a": mine})
    with pytest.raises(ValueError, match="read-only"):
        posts["a"][0] = 5
    mine[0] = 7


def test_unknown_column_names_those_there_are():
    """A wrong column name is answered with the right ones."""
    with pytest.raises(KeyError, match=r"no column 'age' \(have: a, post_id\)"):
        table([1], a=[1])["age"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "post_id int64"),
        ({"post_id": np.array([1.0])}, "float64"),
        ({"post_id": np.array([1, 2]), "a": np.array([1])}, "expected 2 rows"),
        ({"post_id": np.array([1]), "a": np.array(1)}, "expected 1 rows"),
    ],
)
def test_malformed_tables_are_refused(columns, message):
    """A table without ids or with ragged columns cannot be made."""
    with pytest.raises(ValueError, match=message):
        Candidates(columns)


def test_a_column_is_written_once():
    """Adding a column that is there is an error, not an overwrite."""
    with pytest.raises(ValueError, match="there already"):
        table([1], a=[1]).with_columns({"a": np.array([2])})


def test_rows_keep_their_columns():
    """Taking, filtering and pickling move whole rows, two-dimensional columns included."""
    posts = table([5, 6, 7], a=[0.5, 0.6, 0.7], p=[[1, 2], [3, 4], [5, 6]])
    taken = posts.take(np.array([2, 0]))
    assert (taken.post_id.tolist(), taken["p"].tolist()) == ([7, 5], [[5, 6], [1, 2]])
    kept = pickle.loads(pickle.dumps(posts.filter(np.array([False, True, True]))))
    assert (kept.post_id.tolist(), kept["a"].tolist()) == ([6, 7], [0.6, 0.7])
    assert (kept.row_of(7), kept.row_of(5), len(Candidates.empty())) == (1, None, 0)

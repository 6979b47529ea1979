"""Rows of the log become arrays of one shape, the same on every machine."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.encoding import hash_ids, hour_bucket, log_bucket, multi_hot, pad

IDS = st.lists(st.integers(0, 2**62), max_size=20)


@given(IDS, st.integers(1, 4), st.integers(2, 1000))
def test_hashes_are_rows_of_the_table(ids, num_hashes, vocab):
    """Every id has its rows in [1, vocab), and id 0 has row 0."""
    rows = hash_ids(ids, num_hashes, vocab, salt=1)

    assert rows.shape == (len(ids), num_hashes)
    for id_, row in zip(ids, rows, strict=True):
        assert (row == 0).all() if id_ == 0 else ((row >= 1) & (row < vocab)).all()


def test_hashes_never_change():
    """Trained tables depend on these exact rows."""
    assert hash_ids([1, 2, 2**62], 2, 32_768, salt=2).tolist() == [
        [19302, 19860],
        [5160, 14458],
        [426, 31342],
    ]


def test_hashes_are_independent():
    """Ids that share their first row almost never share the second."""
    rows = hash_ids(np.arange(1, 20_001), 2, 1001, salt=1)
    pairs = len(np.unique(rows[:, 0] * 1001 + rows[:, 1]))

    assert pairs > 19_700  # 20,000 ids thrown into a million pairs


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5), st.booleans())
def test_pad_keeps_one_end(lists, newest):
    """Lists are cut to the width at the asked end and filled with zeros on the right."""
    expected = []
    for items in lists:
        kept = items[-3:] if newest else items[:3]
        expected.append(kept + [0] * (3 - len(kept)))
    column = pa.chunked_array([pa.array(lists, pa.list_(pa.int64()))])

    np.testing.assert_array_equal(pad(column, 3, newest=newest), expected)
    np.testing.assert_array_equal(
        pad(column.slice(1), 3, newest=newest), expected[1:] or np.zeros((0, 3))
    )


def test_multi_hot_reads_bits():
    """Bit a of a mask is action a."""
    assert multi_hot(np.array([0, 0b101]), 4).tolist() == [[0, 0, 0, 0], [1, 0, 1, 0]]


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=9))
def test_log_buckets_keep_the_order(amounts):
    """Larger amounts never fall into smaller buckets, all into [1, num_buckets)."""
    bucket = log_bucket(np.sort(amounts), 3, 20)

    assert (np.diff(bucket) >= 0).all()
    assert ((bucket >= 1) & (bucket < 20)).all()


def test_unknown_amounts_and_times_have_bucket_zero():
    """What was not measured is never confused with a small amount or midnight."""
    assert log_bucket(np.array([np.nan, -1, 0]), 3, 20).tolist() == [0, 0, 1]
    assert hour_bucket(np.array([0, 1, 23 * 3_600_000])).tolist() == [0, 1, 24]

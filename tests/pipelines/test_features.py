"""Rows become the same model inputs in training and in serving."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.features import (
    FeatureSpec,
    History,
    candidate_inputs,
    example_inputs,
    example_targets,
    hash_ids,
    history_inputs,
    history_rows,
    multi_hot,
    pad,
)
from pipelines.schema import ACTION_NAMES, DWELL_TIME, EXAMPLES

SPEC = FeatureSpec(history_len=4)
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


def history(user_id: int, length: int) -> History:
    """A made-up history."""
    rng = np.random.default_rng(user_id)
    return History(
        user_id=user_id,
        post_id=rng.integers(1, 99, length),
        author_id=rng.integers(0, 9, length),
        did=rng.integers(0, 2**18, length),
        surface=rng.integers(0, 20, length).astype(np.int16),
        dwell_s=np.where(rng.random(length) < 0.3, np.nan, 40 * rng.random(length)).astype("f4"),
        at_ms=rng.integers(1, 10**12, length),
    )


def example(past: History, post_id: list[int]) -> pa.Table:
    """One row of EXAMPLES with this history and these candidates."""
    num = len(post_id)
    row = {"user_id": past.user_id, "at_ms": 1}
    for name in ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms"):
        row[f"history_{name}"] = getattr(past, name).tolist()
    row |= {"post_id": post_id, "author_id": [3] * num, "surface": [1] * num}
    row |= {"shown_at_ms": [1] * num, "did": [1 | 1 << DWELL_TIME] * num}
    row |= {"observed": [(1 << DWELL_TIME) | 3] * num, "dwell_s": [2.5] * num}
    return pa.Table.from_pylist([row], schema=EXAMPLES)


@given(st.integers(1, 99), st.integers(0, 9))
def test_serving_equals_training(user_id, length):
    """A served request and a logged example of the same moment give equal inputs."""
    past, post_id = history(user_id, length), [5, 6]
    trained = example_inputs(example(past, post_id), SPEC)
    served = history_inputs(history_rows([past]), SPEC) | candidate_inputs(
        np.array([post_id]), np.array([[3, 3]]), np.array([[1, 1]], np.int16), SPEC
    )

    assert trained.keys() == served.keys()
    for name, array in served.items():
        np.testing.assert_array_equal(trained[name], array, err_msg=name)
        assert trained[name].dtype == array.dtype, name


def test_several_histories_at_once():
    """Rows of a batch do not touch each other; an empty history is all padding."""
    both = history_inputs(history_rows([history(1, 7), History.empty(2)]), SPEC)
    alone = history_inputs(history_rows([history(1, 7)]), SPEC)

    for name, array in alone.items():
        np.testing.assert_array_equal(both[name][0], array[0])
    assert not both["history_post_hashes"][1].any()


def test_dwell_of_the_past_is_a_share_of_the_cap():
    """The dwell_time column of history is capped, and 0 where it was not measured."""
    past = history(1, 3)
    past = History(**{**past.__dict__, "dwell_s": np.array([15, 90, np.nan], np.float32)})
    actions = history_inputs(history_rows([past]), SPEC)["history_actions"]

    assert actions[0, :, DWELL_TIME].tolist() == [0.5, 1.0, 0.0, 0.0]


def test_targets_say_what_was_observed():
    """Labels hold actions and seconds; the mask holds what the log could tell."""
    targets = example_targets(example(history(1, 2), [5, 6, 7]), SPEC)

    assert targets["labels"].shape == (1, 3, len(ACTION_NAMES))
    assert targets["labels"][0, 0, [0, 1, DWELL_TIME]].tolist() == [1, 0, 2.5]
    assert np.flatnonzero(targets["label_mask"][0, 0]).tolist() == [0, 1, DWELL_TIME]


def test_unknown_surface_is_zero():
    """A surface the model has no row for counts as unknown."""
    inputs = candidate_inputs(
        np.array([[1, 1]]), np.array([[1, 1]]), np.array([[99, 3]], np.int16), SPEC
    )

    assert inputs["candidate_product_surface"].tolist() == [[0, 3]]

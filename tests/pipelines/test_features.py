"""Rows become the same model inputs in training and in serving."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.facts import Facts, Rates
from pipelines.features import (
    FeatureSpec,
    History,
    candidate_inputs,
    example_inputs,
    example_targets,
    history_inputs,
    history_rows,
)
from pipelines.schema import ACTION_NAMES, DWELL_TIME, EXAMPLES

SPEC = FeatureSpec(history_len=4, num_code_levels=2, content_size=3)
RNG = np.random.default_rng(0)
FACTS = Facts(  # of posts 1 to 9 and viewers 1 to 9
    post_id=np.arange(1, 10),
    created_at_ms=np.append(RNG.integers(0, 10**11, 9), 0),
    duration_s=np.append(RNG.random(9) * 60, np.nan).astype(np.float32),
    topic=np.append(RNG.integers(0, 4, (9, 3)), [[0, 0, 0]], axis=0),
    user_id=np.arange(1, 10),
    attribute=np.append(RNG.integers(0, 99, (9, 4)), [[0] * 4], axis=0),
    rates={
        "post": Rates.of(
            pa.table(
                {"id": [5, 5, 6], "from_ms": [0, 2000, 0], "shown": [3, 9, 4], "click": [1, 2, 3]}
            ),
            ACTION_NAMES,
        )
    },
    content=np.append(RNG.random((9, 3)), [[0] * 3], axis=0).astype(np.float32),
    codes=np.append(RNG.integers(1, 256, (9, 2)), [[0, 0]], axis=0),
)


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
    trained = example_inputs(example(past, post_id), SPEC, FACTS)
    rows, ones = history_rows([past], [1]), np.array([[1, 1]])
    served = history_inputs(rows, SPEC, FACTS) | candidate_inputs(
        rows, np.array([post_id]), np.array([[3, 3]]), ones.astype(np.int16), ones, SPEC, FACTS
    )

    assert trained.keys() == served.keys()
    for name, array in served.items():
        np.testing.assert_array_equal(trained[name], array, err_msg=name)
        assert trained[name].dtype == array.dtype, name


def test_several_histories_at_once():
    """Rows of a batch do not touch each other; an empty history is all padding."""
    both = history_inputs(history_rows([history(1, 7), History.empty(2)], [1, 1]), SPEC, FACTS)
    alone = history_inputs(history_rows([history(1, 7)], [1]), SPEC, FACTS)

    for name, array in alone.items():
        np.testing.assert_array_equal(both[name][0], array[0])
    assert not both["history_post_hashes"][1].any()


def test_dwell_of_the_past_is_a_share_of_the_cap():
    """The dwell_time column of history is capped, and 0 where it was not measured."""
    past = history(1, 3)
    past = History(**{**past.__dict__, "dwell_s": np.array([15, 90, np.nan], np.float32)})
    actions = history_inputs(history_rows([past], [1]), SPEC, FACTS)["history_actions"]

    assert actions[0, :, DWELL_TIME].tolist() == [0.5, 1.0, 0.0, 0.0]


def test_targets_say_what_was_observed():
    """Labels hold actions and seconds; the mask holds what the log could tell."""
    targets = example_targets(example(history(1, 2), [5, 6, 7]), SPEC)

    assert targets["labels"].shape == (1, 3, len(ACTION_NAMES))
    assert targets["labels"][0, 0, [0, 1, DWELL_TIME]].tolist() == [1, 0, 2.5]
    assert np.flatnonzero(targets["label_mask"][0, 0]).tolist() == [0, 1, DWELL_TIME]


def test_unknown_surface_is_zero():
    """A surface the model has no row for counts as unknown."""
    rows, ones = history_rows([History.empty(1)], [1]), np.array([[1, 1]])
    surface = np.array([[99, 3]], np.int16)
    inputs = candidate_inputs(rows, ones, ones, surface, ones, SPEC, FACTS)

    assert inputs["candidate_product_surface"].tolist() == [[0, 3]]

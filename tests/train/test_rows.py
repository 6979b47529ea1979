"""A viewer's past is found exactly, whatever the ids."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.rows import Past

IDS = st.sampled_from([1, 2, 2**41, 2**62, 2**63 - 1])
EVENTS = st.lists(st.tuples(IDS, st.integers(0, 5)), max_size=30)


@given(EVENTS, st.lists(st.tuples(IDS, st.integers(0, 6)), min_size=1, max_size=8))
def test_before_is_strictly_earlier(events, questions):
    """`before` gives each viewer's rows with a smaller time, also for ids that fill 64 bits."""
    user, at_ms = np.array(sorted(events), np.int64).reshape(-1, 2).T
    past = Past(user_id=user, post_id=user, at_ms=at_ms, did=user)
    who, when = np.array(questions, np.int64).T
    start, end = past.before(who, when)

    for first, last, user_id, at in zip(start, end, who, when, strict=True):
        expected = [i for i, e in enumerate(sorted(events)) if e[0] == user_id and e[1] < at]
        assert list(range(first, last)) == expected

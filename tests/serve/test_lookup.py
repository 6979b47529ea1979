"""Sets of sorted ids are those of Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.stores.lookup import difference, sorted_ids, union

IDS = st.lists(st.integers(-3, 12), max_size=12)


@given(IDS, IDS)
def test_sorted_ids_are_sets(some, others):
    """Union and difference of sorted arrays, the second in any order and with repeats."""
    ids, more = sorted_ids(np.array(some, np.int64)), np.array(others, np.int64)
    assert ids.tolist() == sorted(set(some))
    assert union(ids, more).tolist() == sorted({*some, *others})
    assert difference(ids, more).tolist() == sorted({*some} - {*others})

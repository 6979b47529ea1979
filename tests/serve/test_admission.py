"""So many requests at once, and no place is lost."""

from __future__ import annotations

import contextlib

import pytest

from serve.admission import Admission, OverloadedError


def test_a_place_is_given_back_whatever_becomes_of_the_request():
    """One too many is refused and counts for nothing; a request that fails makes room again."""
    admission = Admission(max_in_flight=1, retry_after_s=7)
    for _ in range(2):
        with contextlib.suppress(KeyError), admission.admit():
            with pytest.raises(OverloadedError) as refused, admission.admit():
                pass
            assert refused.value.retry_after_s == 7
            assert admission.in_flight == 1
            raise KeyError
    assert admission.in_flight == 0

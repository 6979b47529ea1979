"""Clients' Bloom filters: nothing put in is lost, and little else is held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feed.bloom import MAX_BITS, BloomFilter, any_may_hold

IDS = st.lists(st.integers(1, 2**63 - 1), max_size=60).map(lambda ids: np.array(ids, np.int64))
NONE = np.empty(0, np.int64)
WORD = 2**64


@given(ids=IDS, rate=st.floats(1e-6, 0.9), seed=st.integers(0, WORD - 1))
def test_a_filter_holds_all_that_was_put_in(ids, rate, seed):
    """No false negatives, whatever the size, the rate and the seed."""
    assert BloomFilter.of(ids, rate, seed).may_hold(ids).all()


@pytest.mark.parametrize("rate", [0.2, 0.01, 0.001])
@pytest.mark.parametrize("first", [1, 1_500_000_000_000_000_000])
def test_a_filter_wrongly_holds_as_many_as_its_rate_says(rate, first):
    """Of ids that were not put in, near ones too, the share of the formula is held."""
    ids = np.arange(first, first + 4_000)
    others = np.arange(first + 4_000, first + 204_000)
    held = BloomFilter.of(ids, rate, seed=7)
    exponent = -held.num_hashes * len(ids) / held.num_bits
    formula = (1 - np.exp(exponent)) ** held.num_hashes
    assert formula == pytest.approx(rate, rel=0.1)
    assert held.may_hold(others).mean() == pytest.approx(formula, rel=0.25)


def test_seeds_make_filters_independent():
    """What one filter wrongly holds, the same posts under another seed hold no more than others."""
    ids, others = np.arange(1, 2_001), np.arange(2_001, 102_001)
    first, second = (BloomFilter.of(ids, 0.1, seed).may_hold(others) for seed in (0, 1))
    assert (first & second).mean() == pytest.approx(first.mean() * second.mean(), rel=0.2)


@given(post_id=st.integers(1, 2**63 - 1), seed=st.integers(0, WORD - 1), bits=st.integers(1, 9999))
def test_positions_are_as_the_contract_says(post_id, seed, bits):
    """Plain integer arithmetic, as a client in another language would write it, agrees."""

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB % WORD
        return z ^ z >> 31

    g = 0x9E3779B97F4A7C15
    h1 = mix((post_id + mix((seed + g) % WORD)) % WORD)
    h2 = mix((h1 + g) % WORD) | 1
    expected = [(h1 + i * h2) % WORD % bits for i in range(5)]
    one = BloomFilter(bytes((bits + 7) // 8), bits, 5, seed)
    assert one.positions(np.array([post_id])).tolist() == [expected]


def test_the_examples_of_the_contract():
    """The vectors that scored_posts.proto gives clients to check themselves by."""
    empty = BloomFilter(bytes(128), num_bits=1024, num_hashes=3, seed=0)
    assert empty.positions(np.array([1])).tolist() == [[715, 402, 89]]
    three = BloomFilter.of([1, 2, 3], 0.1, seed=5)
    assert (three.num_bits, three.num_hashes, three.bits.hex()) == (15, 3, "3a5a")


def test_an_empty_filter_holds_nothing():
    """No posts put in, none held; and no post, id 0, is never held."""
    empty = BloomFilter.of(NONE)
    assert not empty.may_hold(np.arange(1, 1000)).any()
    full = BloomFilter(b"\xff", num_bits=8, num_hashes=2)
    assert any_may_hold([empty, full], np.array([0, 5, 0])).tolist() == [False, True, False]
    assert any_may_hold([], np.array([5])).tolist() == [False]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"bits": b"\0\0"}, "bits: 2 bytes, expected 1 for num_bits 8"),
        ({"num_bits": 0}, "num_bits: 0, expected 1 to"),
        ({"num_bits": MAX_BITS + 1}, "num_bits: 8388609"),
        ({"num_hashes": 0}, "num_hashes: 0, expected 1 to 32"),
        ({"num_hashes": 33}, "num_hashes: 33"),
        ({"seed": -1}, "seed: -1"),
    ],
)
def test_a_malformed_filter_is_refused(values, said):
    """What cannot be read bit by bit says which part is wrong and what it should be."""
    with pytest.raises(ValueError, match=said):
        BloomFilter(**{"bits": b"\0", "num_bits": 8, "num_hashes": 1} | values)


def test_a_filter_too_large_to_make_is_refused():
    """Making one checks the same limits, and the rate."""
    with pytest.raises(ValueError, match="num_bits"):
        BloomFilter.of(np.arange(1, 2_000_000), 0.001)
    with pytest.raises(ValueError, match=r"false_positive_rate: 1, expected between 0 and 1"):
        BloomFilter.of([1], false_positive_rate=1)

"""What a cache bounded by bytes holds."""

from __future__ import annotations

import random

import pytest

from serve.lru import Lru

MAX_BYTES = 20


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_what_a_plain_list_in_order_of_use_would(seed):
    """Uses, puts, what is too large and what is taken out: all as in a list that is searched."""
    rng, cache = random.Random(seed), Lru[int, int](MAX_BYTES, abs)
    used: list[tuple[int, int]] = []  # keys and values, the longest unused first
    num_evicted = 0
    for _ in range(300):
        key, value = rng.randrange(8), rng.randrange(1, MAX_BYTES + 5)
        known = [pair for pair in used if pair[0] == key]
        others = [pair for pair in used if pair[0] != key]
        action = rng.choice(("get", "pop", "put"))
        if action == "put":
            used, gone = others + [(key, value)] * (value <= MAX_BYTES), []
            while sum(size for _, size in used) > MAX_BYTES:
                gone.append(used.pop(0)[0])
            assert cache.put(key, value) == gone
            num_evicted += len(gone)
        else:
            used = others + (known if action == "get" else [])
            assert getattr(cache, action)(key) == (known[0][1] if known else None)
        assert list(cache) == [key for key, _ in used]
        assert len(cache) == len(used)
        assert cache.num_bytes == sum(size for _, size in used)
    assert cache.num_evicted == num_evicted > 0
    assert all(key in cache for key, _ in used)

"""A kept vector is given only for what it was computed from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.features import History, history_inputs, history_rows
from serve.deployments import Retriever, RetrieverSettings
from serve.models import Search
from serve.stores.profiles import ProfileStore
from serve.viewer_vectors import ViewerVectors
from train.models.tokens import tensors

HOUR_MS = 3_600_000
NOW_MS = 1_770_000_000_000
FIELDS = ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms")


@pytest.fixture(scope="module")
def place(bundle):
    """Gives viewers their vectors: from one cache for all tests, and computed anew."""
    towers, facts = bundle.load_two_tower(), bundle.facts
    spec = towers.config.features

    def tower(inputs):
        with torch.inference_mode():
            return towers.user(tensors(inputs)).numpy()

    cache = ViewerVectors(tower, 50)

    def place(*asked):
        rows = history_rows([history for history, _ in asked], [at_ms for _, at_ms in asked])
        inputs = history_inputs(rows, spec, facts)
        return cache.of(inputs), tower(inputs), cache

    return place


@st.composite
def histories(draw) -> History:
    """What one of a few viewers did: few ids, so that histories are much alike."""
    num = draw(st.integers(0, 4))

    def drawn(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=num, max_size=num))

    ago = np.array(drawn(0, 50), np.int64)
    return History(
        user_id=draw(st.integers(1, 3)),
        post_id=np.array(drawn(1, 5), np.int64),
        author_id=np.array(drawn(0, 3), np.int64),
        did=np.array(drawn(0, 7), np.int64),
        surface=np.array(drawn(0, 2), np.int16),
        dwell_s=np.array(drawn(0, 20), np.float32),
        at_ms=NOW_MS - HOUR_MS * np.sort(ago)[::-1],
    )


ASKED = st.lists(
    st.tuples(histories(), st.integers(0, 100).map(lambda hours: NOW_MS + hours * HOUR_MS)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(asked=ASKED)
def test_a_kept_vector_is_never_stale(place, asked):
    """Whoever asked before, and whatever changed since, vectors are those computed anew."""
    kept, anew, _ = place(*asked)
    np.testing.assert_allclose(kept, anew, atol=1e-5)


@settings(max_examples=20)
@given(history=histories(), number=st.integers(0, 3), which=st.sampled_from(FIELDS))
def test_any_change_of_an_event_is_another_vector(place, history, number, which):
    """One event that is another moves the viewer, though the vector before is still kept."""
    if number >= len(history.post_id):
        return
    values = getattr(history, which).copy()
    values[number] += {"did": 8, "at_ms": -400 * HOUR_MS}.get(which, 7)
    moved = replace(history, **{which: values})
    before, _, _ = place((history, NOW_MS))
    after, anew, _ = place((moved, NOW_MS))
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, anew, atol=1e-5)


def test_who_asks_again_is_a_hit(place):
    """The same history a little later is a hit; an engagement, or a day, is a miss."""
    ids = np.array([3, 4], np.int64)
    past = History(
        7,
        ids,
        ids,
        ids * 0 + 1,
        ids.astype(np.int16),
        ids.astype("f4"),
        NOW_MS - ids * 30 * HOUR_MS,
    )
    cache = place((past, NOW_MS))[2]
    for at_ms, more_hits in ((NOW_MS + 1000, 1), (NOW_MS + 24 * 40 * HOUR_MS, 0)):
        hits = cache.hits
        place((past, at_ms))
        assert cache.hits - hits == more_hits
    engaged = replace(past, did=past.did + 1)
    misses = cache.misses
    place((engaged, NOW_MS), (past, NOW_MS))
    assert cache.misses - misses == 1


def test_those_longest_not_asked_for_go_first():
    """No more are kept than the bound says, and one asked for again stays."""
    cache = ViewerVectors(lambda inputs: inputs["x"].astype(np.float32), 2)
    for value in (1, 2, 1, 3, 1):
        assert cache.of({"x": np.array([[value]])}).tolist() == [[value]]
    assert (cache.hits, cache.misses) == (2, 3)
    cache.of({"x": np.array([[2]])})
    assert cache.misses == 4


def test_a_retriever_takes_settings(bundle):
    """Few viewers are remembered where the settings say so."""
    retriever = Retriever(bundle, RetrieverSettings(cached_viewers=2))
    profiles = ProfileStore(bundle.profiles)
    known = [history for one in range(1, 40) if (history := profiles.history(one))]
    asked = [Search(history, 3, bundle.as_of_ms + 60_000) for history in known[:12]]
    retriever.search(asked)
    retriever.search(asked[-2:])
    retriever.search(asked[:1])
    assert (retriever.viewers.hits, retriever.viewers.misses) == (2, len(asked) + 1)

"""A kept context is given only for what it was computed from."""

from __future__ import annotations

import random
import threading
import zlib

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.features import Inputs
from serve.context_caches import ContextCaches
from tests.train.models.ranker_worlds import ranker, viewers
from train.models.context import ContextCache
from train.models.ranker import RankerConfig
from train.models.tokens import Tensors

SPEC = RankerConfig(features={"history_len": 6, "num_code_levels": 1}).features


class Told:
    """Stands for a model: the context of a viewer is a checksum of all that was read of them.

    The checksum of a history that grew goes on from that of the history before. It takes the
    memory of one number for each event and one more, twice.
    """

    def context(self, inputs: Tensors) -> ContextCache:
        arrays = {name: values.numpy() for name, values in inputs.items()}
        rows = range(len(arrays["user_hashes"]))
        return _of([(checksum(arrays, row), num_events(arrays, row)) for row in rows])

    def extended(self, context: ContextCache, inputs: Tensors) -> ContextCache:
        value, num = int(context.layers[0][0][0, 0, 0, 0]), context.seen.shape[1]
        return _of([(_go_on(value, {n: t.numpy() for n, t in inputs.items()}, 0, 0), num)])


def _of(viewers: list[tuple[int, int]]) -> ContextCache:
    value, num = torch.tensor(viewers).T
    seen = torch.arange(int(num.max()) + 1) <= num[:, None]
    values = (value[:, None] * seen)[:, None, :, None]
    return ContextCache(((values, values),), seen, num + 1)


def size(num_events: int) -> int:
    """Bytes that the context of so many events takes."""
    return (2 * 8 + 1) * (num_events + 1) + 8


def num_events(inputs: Inputs, row: int) -> int:
    """Events of one viewer's history."""
    return int((inputs["history_post_hashes"][row, :, 0] != 0).sum())


def _go_on(value: int, inputs: Inputs, row: int, slot: int) -> int:
    for name in sorted(n for n in inputs if n.startswith("history_")):
        value = zlib.crc32(np.ascontiguousarray(inputs[name][row, slot]), value)
    return value


def checksum(inputs: Inputs, row: int) -> int:
    """Of one viewer and each event, one after the other."""
    value = 0
    for name in sorted(n for n in inputs if n.startswith("user_")):
        value = zlib.crc32(np.ascontiguousarray(inputs[name][row]), value)
    for slot in range(num_events(inputs, row)):
        value = _go_on(value, inputs, row, slot)
    return value


def given_for(caches: ContextCaches, inputs: Inputs) -> list[int]:
    """The checksums that come out of the cache."""
    return caches.of(inputs).layers[0][0][:, 0, 0, 0].tolist()


def world(lengths: list[int], seed: int = 0) -> Inputs:
    """Random viewers with so many events."""
    return {n: t.numpy() for n, t in viewers(SPEC, torch.tensor(lengths), seed).items()}


def changed(inputs: Inputs, events: Inputs, draw: random.Random) -> Inputs:
    """One viewer after one number changed, or one event came, went, or pushed the oldest out."""
    after = dict(inputs)
    length, S = num_events(inputs, 0), SPEC.history_len

    def own(name: str) -> NDArray:
        after[name] = inputs[name].copy()
        return after[name][0]

    what = draw.choice(["number", "number", "come", "come", "go", "padding"])
    if what == "come":
        which = draw.randrange(len(events["history_actions"]))
        for name in (n for n in inputs if n.startswith("history_")):
            values = own(name)
            if length == S:
                values[:-1] = inputs[name][0, 1:]
            values[min(length, S - 1)] = events[name][which, 0]
    elif what == "go" and length:
        own("history_post_hashes")[length - 1] = 0
    elif what == "padding" and length < S:
        own("history_actions")[length] += 1
    elif what == "number":
        name = draw.choice(sorted(inputs))
        values = own(name) if name.startswith("user_") else own(name)[:length]
        if values.size:
            flat, at = values.reshape(-1), draw.randrange(values.size)
            assert np.shares_memory(flat, after[name])
            flat[at] = flat[at] % 39 + 1  # another number, and no padding
    return after


def test_no_hit_is_stale_in_ten_thousand_changes():
    """Whatever changes of a viewer, what comes out of the cache was computed from just that.

    Many contexts that differ in one number are kept beside each other; states come back.
    """
    draw = random.Random(0)
    caches = ContextCaches(Told(), "a version", 100 * size(3))
    events = world([1] * 200, seed=1)
    states = [world([3])]
    for _ in range(10_000):
        now = changed(draw.choice(states[-20:]), events, draw)
        states.append(now)
        assert given_for(caches, now) == [checksum(now, 0)]
    stats = caches.stats()
    assert min(stats["hits"], stats["extensions"], stats["misses"], stats["evictions"]) > 300


def test_another_version_is_another_key():
    """The same viewer's key depends on the bundle that the model is of."""
    inputs = world([3])
    one, other = (ContextCaches(Told(), version, 10**6) for version in ("one", "other"))
    one.of(inputs)
    other.of(inputs)
    assert not set(one._kept) & set(other._kept)


def test_what_lies_behind_a_history_is_no_part_of_the_key():
    """Other padding is the same viewer."""
    caches, inputs = ContextCaches(Told(), "a version", 10**6), world([3, 4])
    caches.of(inputs)
    other = {name: values.copy() for name, values in inputs.items()}
    other["history_actions"][0, 3:] += 1
    caches.of(other)
    assert (caches.misses, caches.hits) == (2, 2)


def test_events_that_come_extend_what_is_kept():
    """Up to four new events extend the context, of a full history's it is computed anew."""
    caches, inputs = ContextCaches(Told(), "a version", 10**6), world([6])

    def cut(length: int) -> Inputs:
        past = (np.arange(SPEC.history_len) < length)[None, :, None]
        return inputs | {"history_post_hashes": inputs["history_post_hashes"] * past}

    for length, done in ((0, "misses"), (1, "extensions"), (5, "extensions"), (6, "extensions")):
        before = getattr(caches, done)
        caches.of(cut(length))
        assert getattr(caches, done) == before + 1, length
    later = world([1], seed=1)
    pushed = {
        name: np.concatenate([values[:, 1:], later[name][:, :1]], axis=1)
        if name[0] == "h"
        else values
        for name, values in inputs.items()
    }
    caches.of(pushed)
    assert caches.stats() | {"bytes": 0} == {
        "hits": 0, "extensions": 3, "misses": 2, "evictions": 0, "kept": 2, "bytes": 0,
    }  # fmt: skip


def test_one_pass_computes_each_viewer_once():
    """Kept, extended, new and repeated viewers of one pass each get their own."""
    caches, inputs = ContextCaches(Told(), "a version", 10**6), world([2, 3, 4, 3])
    first = {name: values[[0]] for name, values in inputs.items()}
    past = {name: values[[1]] for name, values in inputs.items()}
    past["history_post_hashes"] = past["history_post_hashes"] * (np.arange(6) < 2)[None, :, None]
    caches.of(first)
    caches.of(past)
    order = [3, 0, 1, 0, 2, 2]
    got = given_for(caches, {name: values[order] for name, values in inputs.items()})
    assert got == [checksum(inputs, row) for row in order]
    assert (caches.hits, caches.extensions, caches.misses) == (3, 1, 2 + 2)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=20, max_size=60), st.integers(0, 300))
def test_no_more_is_kept_than_the_bytes_allow(asked, max_bytes):
    """Those longest not asked for go first; what alone is too large is not kept, and moves none."""
    lengths = [0, 1, 2, 3, 4, 5, 6]
    caches, inputs = ContextCaches(Told(), "a version", max_bytes), world(lengths)
    newest: list[int] = []  # by the rule
    for viewer in asked:
        before = caches.hits
        caches.of({name: values[[viewer]] for name, values in inputs.items()})
        assert caches.hits - before == (viewer in newest)
        if size(viewer) <= max_bytes:
            newest = [v for v in newest if v != viewer] + [viewer]
        while sum(map(size, newest)) > max_bytes:
            del newest[0]
        stats = caches.stats()
        assert (stats["kept"], stats["bytes"]) == (len(newest), sum(map(size, newest)))
        assert stats["bytes"] <= max_bytes


def test_threads_get_their_own():
    """Beside each other, threads get what belongs to their viewers; the books stay in order."""
    inputs = world([1 + n % 6 for n in range(30)])
    expected = [checksum(inputs, row) for row in range(30)]
    caches = ContextCaches(Told(), "a version", 300)
    wrong = []

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(150):
            rows = [draw.randrange(30) for _ in range(draw.randint(1, 4))]
            got = given_for(caches, {name: values[rows] for name, values in inputs.items()})
            if got != [expected[row] for row in rows]:
                wrong.append(rows)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = caches.stats()
    assert not wrong
    assert (
        stats["bytes"] == sum(viewer.num_bytes for viewer in caches._kept._values.values()) <= 300
    )


def test_events_after_a_hole_extend_nothing():
    """An event that stands beyond a slot that holds none is at its own place, not one before."""
    config = RankerConfig(features={"history_len": 6})
    model = ranker(config, 0)
    caches = ContextCaches(model, "", 2**20)
    arrays = {n: t.numpy() for n, t in viewers(config.features, torch.tensor([3]), 0).items()}

    def without(slots: slice) -> Inputs:
        some = {name: values.copy() for name, values in arrays.items()}
        for name in some:
            if name.startswith("history_"):
                some[name][:, slots] = 0
        return some

    caches.of(without(slice(1, None)))
    ours = caches.of(without(slice(1, 2)))
    theirs = model.context({n: torch.from_numpy(a) for n, a in without(slice(1, 2)).items()})
    assert (caches.misses, caches.extensions) == (2, 0)
    assert torch.equal(ours.seen, theirs.seen[:, : ours.seen.shape[1]])
    key = ours.layers[-1][0]
    torch.testing.assert_close(key, theirs.layers[-1][0][:, :, : key.shape[2]])

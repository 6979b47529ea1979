"""The cache of scored posts never answers with what is out of date, nor holds too much."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipelines.features import History
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Scored
from pipelines.schema import DELETIONS, ENGAGEMENTS, POSTS
from serve.live.messages import Happened
from serve.stores.candidates import CandidateStore
from tests.pipelines.feed.compose import entry
from tests.pipelines.feed.world import NOW_MS, Disturbed, World

VIEWERS, SURFACES = st.sampled_from([1, 2]), st.sampled_from([0, 3])
SETTING = "scorers.out_of_network.factor"
FEEDS = [
    Pipeline.build(FeedConfig(allow=(SETTING,))),
    Pipeline.build(FeedConfig(allow=(SETTING,), filters={"age": {"max_age_hours": 50}})),
]
TTL_S = 600


def did(user_id: int) -> Happened:
    """One engagement of a viewer."""
    row = {"event_id": "e", "user_id": user_id, "post_id": 1, "at_ms": 1, "action": "click"}
    tables = (table.arrow.empty_table() for table in (POSTS, DELETIONS))
    return Happened(*tables, pa.Table.from_pylist([row], ENGAGEMENTS.arrow))


class NeverStale(RuleBasedStateMachine):
    """Pages asked for while viewers act, models change and time passes.

    A page may come from the cache only if one was made for the same viewer, feed, settings and
    surface by the same models, not longer ago than `TTL_S`, and the viewer did nothing since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = CandidateStore(10**7)
        self.world = World(num_posts=150)
        self.now_ms = NOW_MS
        self.version = 0
        self.num_done = {1: 0, 2: 0}
        self.made: dict[tuple, int] = {}

    async def history(self, user_id: int) -> History:
        ids = np.arange(1, 1 + self.num_done[user_id])
        none = np.zeros(len(ids), np.float32)
        return History(user_id, ids, ids, ids, ids.astype(np.int16), none, ids)

    async def cached(self, user_id: int, key: str, after_ms: int, before_ms: int) -> Scored | None:
        return self.store.get(user_id, f"{self.version}/{key}", after_ms, before_ms)

    async def cache(self, user_id: int, key: str, scored: Scored) -> None:
        self.store.put(user_id, f"{self.version}/{key}", scored)

    def ask(
        self, user_id: int, surface: int, factor: float | None, feed: int, during: bool
    ) -> None:
        query = replace(
            self.world.query(user_id, limit=5),
            now_ms=self.now_ms,
            surface=surface,
            overrides={} if factor is None else {SETTING: factor},
        )
        parts = {"history": self.history, "cached": self.cached, "cache": self.cache}
        services, pipeline = Disturbed(self.world, **parts), FEEDS[feed]

        async def body():
            result = await pipeline.run(query, services)
            if during:
                self.engage(user_id, seen_by_history=True)
            pipeline.start_side_effects(result, services)
            await pipeline.drain()
            return result

        asked = (user_id, surface, factor, feed, self.version, self.num_done[user_id])
        age_ms = self.now_ms - self.made.get(asked, -(10**15))  # before what happens during it
        result = asyncio.run(body())
        hit = entry(result, "sources.cached_posts").outcome == "ok"
        assert hit == (0 < age_ms <= TTL_S * 1000)
        if not hit:
            self.made[asked] = self.now_ms

    @rule(
        user_id=VIEWERS,
        surface=SURFACES,
        factor=st.sampled_from([None, 0.5]),
        feed=st.sampled_from([0, 1]),
        during=st.sampled_from([False, False, False, True]),
    )
    def page(self, user_id, surface, factor, feed, during):
        """Ask for a page; perhaps the viewer does something while it is made."""
        self.ask(user_id, surface, factor, feed, during)

    @rule(user_id=VIEWERS)
    def again(self, user_id):
        """Ask twice for the plainest page."""
        self.ask(user_id, 0, None, 0, during=False)
        self.now_ms += 1000
        self.ask(user_id, 0, None, 0, during=False)

    @rule(user_id=VIEWERS, seen_by_history=st.booleans())
    def engage(self, user_id, seen_by_history=True):
        """The viewer does something, which the store hears of, and the history at once or later."""
        self.num_done[user_id] += seen_by_history
        self.store.apply(did(user_id))
        self.made = {asked: at for asked, at in self.made.items() if asked[0] != user_id}

    @rule()
    def reload(self):
        """Other models take over."""
        self.version += 1

    @rule(seconds=st.sampled_from([1, 100, TTL_S]))
    def wait(self, seconds):
        """Time passes."""
        self.now_ms += seconds * 1000

    @invariant()
    def counts_add_up(self):
        """The store knows how much it holds."""
        assert self.store.num_bytes >= 500 * len(self.store)


NeverStale.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestNeverStale = NeverStale.TestCase


def scored(num: int, at_ms: int = 5) -> Scored:
    """So many posts."""
    return Scored(np.arange(num), np.zeros((num, 19), np.float32), np.arange(0), at_ms)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from("ab"), st.integers(0, 30)), max_size=30),
    st.integers(0, 6000),
)
def test_memory_is_bounded_and_what_was_used_last_stays(puts, max_bytes):
    """Whatever comes in, the bytes hold; the last entry that fits is there, the total is right."""
    store = CandidateStore(max_bytes)
    for user_id, key, num in puts:
        one = scored(num)
        store.put(user_id, key, one)
        assert store.num_bytes <= max_bytes
        fits = 84 * num + 500 <= max_bytes
        assert store.get(user_id, key, 0, 10) is (one if fits else None)
        assert sum(map(len, store._keys.values())) == len(store)  # nobody is remembered for nothing
    store.drop([1, 2, 3, 4])
    assert (len(store), store.num_bytes) == (0, 0)


def test_what_was_asked_for_stays_longest():
    """Room is made by giving up the longest unused; hits, misses and evictions are counted."""
    store = CandidateStore(3 * 1000)
    for user_id in (1, 2, 3):
        store.put(user_id, "k", scored(5))
    assert store.get(1, "k", 0, 10) is not None
    store.put(4, "k", scored(5))
    found = [store.get(user_id, "k", 0, 10) is not None for user_id in (1, 2, 3, 4)]
    assert found == [True, False, True, True]
    assert (store.num_hits, store.num_misses, store.num_evicted) == (4, 1, 1)


def test_an_entry_is_of_its_instant():
    """Not before the window begins, nor at its end: a page is never explained by itself."""
    store = CandidateStore(10**6)
    store.put(1, "k", scored(3, at_ms=100))
    windows = [(100, 101), (0, 100), (101, 200)]
    assert [store.get(1, "k", *window) is not None for window in windows] == [True, False, False]

"""Calls answered together are answered as if each were alone."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
import torch

from pipelines.features import History, candidate_inputs, history_inputs, history_rows
from serve.batching import Batcher
from serve.deployments import Ranker, Retriever, Scorer
from serve.models import Ranking, Search
from serve.stores.profiles import ProfileStore
from tests.conftest import NUM_USERS, UNKNOWN_USER

AT_MS = 1_768_000_000_000  # some day in January 2026


def test_everyone_gets_their_own_answer_in_few_passes():
    """Concurrent calls share passes, never more than `max_size` in one, and none is lost."""
    passes = []

    def work(items):
        passes.append(len(items))
        time.sleep(0.01)
        return [item * 10 for item in items]

    async def body():
        batcher = Batcher(work, max_size=4)
        return await asyncio.gather(*(batcher(n) for n in range(10)))

    assert asyncio.run(body()) == [n * 10 for n in range(10)]
    assert passes == [4, 4, 2]


def test_an_idle_batcher_answers_at_once():
    """Calls one after the other are passes of one: nothing waits for a batch to fill."""
    passes = []

    def work(items):
        passes.append(len(items))
        return items

    async def body():
        batcher = Batcher(work)
        for n in range(3):
            assert await batcher(n) == n

    asyncio.run(body())
    assert passes == [1, 1, 1]


def test_an_error_reaches_all_of_its_pass_and_no_other():
    """A failed pass is raised in each of its calls; the next pass works."""

    def work(items):
        if "bad" in items:
            raise RuntimeError("cannot")
        return items

    async def body():
        batcher = Batcher(work, max_size=2)
        results = await asyncio.gather(
            *(batcher(item) for item in ("good", "bad", "better", "best")), return_exceptions=True
        )
        assert [str(result) for result in results] == ["cannot", "cannot", "better", "best"]

    asyncio.run(body())


@pytest.mark.parametrize("num_answers", [0, 1, 3])
def test_a_wrong_number_of_answers_fails_its_pass_and_no_other(num_answers):
    """Too few or too many answers are an error in each call of the pass; the next one works."""

    def work(items):
        return items if "good" in items else [*items, *items][:num_answers]

    async def body():
        batcher = Batcher(work, max_size=2)
        for _ in range(2):
            calls = (batcher(item) for item in ("odd", "odder", "good"))
            async with asyncio.timeout(5):
                *failed, good = await asyncio.gather(*calls, return_exceptions=True)
            assert [str(e) for e in failed] == [f"2 calls got {num_answers} answers"] * 2
            assert good == "good"

    asyncio.run(body())


def test_a_stop_iteration_is_an_error_as_any_other():
    """StopIteration, which asyncio cannot carry, does not hang its callers."""

    async def body():
        batcher = Batcher(lambda items: [next(iter(())) for _ in items])
        async with asyncio.timeout(5):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await batcher(1)

    asyncio.run(body())


def test_a_cancelled_pass_leaves_nobody_waiting():
    """When the task behind the passes is cancelled, all its calls end and a new one works."""
    go_on = threading.Event()

    def work(items):
        go_on.wait(5)
        return items

    async def body():
        batcher = Batcher(work, max_size=1)
        calls = [asyncio.create_task(batcher(n)) for n in range(3)]
        await asyncio.sleep(0.01)
        batcher._passes.cancel()
        async with asyncio.timeout(5):
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(end) for end in ended] == [asyncio.CancelledError] * 3
            go_on.set()
            assert await batcher(4) == 4

    asyncio.run(body())


def test_nothing_is_computed_for_a_caller_who_gave_up():
    """A call cancelled while it waits is left out of the next pass."""
    seen = []

    def work(items):
        seen.extend(items)
        time.sleep(0.02)
        return items

    async def body():
        batcher = Batcher(work)
        first = asyncio.create_task(batcher("first"))
        await asyncio.sleep(0.005)
        second = asyncio.create_task(batcher("second"))
        third = asyncio.create_task(batcher("third"))
        await asyncio.sleep(0)
        second.cancel()
        assert [await first, await third] == ["first", "third"]

    asyncio.run(body())
    assert seen == ["first", "third"]


@pytest.mark.parametrize("fails", [False, True])
def test_who_gives_up_during_a_pass_takes_nobody_along(fails):
    """A call cancelled while it is worked on leaves the others of its pass and the next as is."""
    begun, go_on = threading.Event(), threading.Event()

    def work(items):
        begun.set()
        go_on.wait(5)
        if fails and "other" in items:
            raise RuntimeError("cannot")
        return items

    async def body():
        batcher = Batcher(work)
        calls = [asyncio.create_task(batcher(item)) for item in ("gone", "other")]
        await asyncio.to_thread(begun.wait, 5)
        calls[0].cancel()
        await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(5):
            gone, other = await asyncio.gather(*calls, return_exceptions=True)
            assert await batcher("next") == "next"
        assert isinstance(gone, asyncio.CancelledError)
        assert str(other) == ("cannot" if fails else "other")

    asyncio.run(body())


def test_a_ranking_in_company_is_the_ranking_alone(bundle):
    """Viewers ranked together, with any number of posts, get what each gets alone."""
    profiles, ranker = ProfileStore(bundle.profiles), Ranker(bundle)
    posts, authors = bundle.posts["post_id"].to_numpy(), bundle.posts["author_id"].to_numpy()
    rankings = [
        Ranking(
            profiles.history(user_id) or History.empty(user_id),
            posts[:num],
            authors[:num],
            0,
            AT_MS,
        )
        for user_id, num in [(1, 3), (2, 700), (UNKNOWN_USER, 1), (3, 128), (4, 129)]
    ]
    for ranking, together in zip(rankings, ranker.rank(rankings), strict=True):
        (alone,) = ranker.rank([ranking])
        assert together.shape == (len(ranking.post_id), len(bundle.actions))
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("asked", "scored"), [(0, "newest"), (1, 1), (2, 2), (15, 15)])
def test_a_ranking_is_one_pass_of_the_model(bundle, asked, scored):
    """Posts get exactly what the model says, in the order asked.

    It says it of the surface asked for, and where that is unknown of the newest event's.
    """
    history, model = ProfileStore(bundle.profiles).history(1), bundle.load_ranker()
    posts, authors = (bundle.posts[n].to_numpy()[:100] for n in ("post_id", "author_id"))
    assert history.surface[-1] > 0
    scored = history.surface[-1] if scored == "newest" else scored
    spec, surface = model.config.features, np.full((1, 100), scored)
    rows, at_ms = history_rows([history], [AT_MS]), np.full((1, 100), AT_MS)
    inputs = history_inputs(rows, spec, bundle.facts) | candidate_inputs(
        rows, posts[None], authors[None], surface, at_ms, spec, bundle.facts
    )
    plain = model.predict({name: torch.from_numpy(a) for name, a in inputs.items()})
    (got,) = Ranker(bundle).rank([Ranking(history, posts, authors, asked, AT_MS)])
    np.testing.assert_allclose(got, plain[0], rtol=1e-4, atol=1e-6)


def test_a_batched_search_is_the_search_alone(bundle):
    """Viewers searched for together get the posts that each gets alone, best first."""
    retriever, profiles = Retriever(bundle), ProfileStore(bundle.profiles)
    known = [profiles.history(user_id) for user_id in range(1, NUM_USERS)]
    searches = [Search(h, 5 + n, AT_MS) for n, h in enumerate(h for h in known[:4] if h)]
    for search, together in zip(searches, retriever.search(searches), strict=True):
        (alone,) = retriever.search([search])
        assert together.post_id.tolist() == alone.post_id.tolist()
        assert len(together.post_id) == search.num_posts
        assert (np.diff(together.value) <= 0).all()


def test_a_search_for_more_than_there_is_finds_all(bundle):
    """Asking for more posts than the index holds gives each of them once."""
    (hits,) = Retriever(bundle).search([Search(History.empty(1), 10**6, AT_MS)])
    assert sorted(hits.post_id) == sorted(bundle.posts["post_id"].to_pylist())


def test_the_value_is_the_weighted_sum(bundle):
    """The value of a post is its predictions times the bundle's weights."""
    p_action = np.random.default_rng(0).random((5, len(bundle.actions)), np.float32)
    by_hand = [sum(p * w for p, w in zip(row, bundle.weights, strict=True)) for row in p_action]
    assert Scorer(bundle).value(p_action) == pytest.approx(by_hand)

"""`python -m tests.bench.bench_vectors [--posts N]`: what new posts and kept viewers cost or save.

Searches of an index that was left alone, of the same beside posts added and taken out, for the
posts on a topic, and of as many posts in shards; and vectors of viewers that are kept beside those
that are computed. One thread a search, so one core. Results go to
tests/bench/reports/vectors_bench.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from pipelines.facts import Facts
from pipelines.features import History, Inputs, history_inputs, history_rows
from serve.stores.vectors.faiss import FaissVectors
from serve.stores.vectors.sharded import (
    Answer,
    Ask,
    Nearest,
    Question,
    ShardedVectors,
    Shards,
)
from serve.viewer_vectors import ViewerVectors
from train.bundle.part import Part
from train.index import PostIndex
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import tensors
from train.report import BENCH_REPORTS, add_out, header, write

WIDTH = 64
NUM_FOUND = 1_000
NUM_TOPICS = 50
NOW_MS = 1_800_000_000_000


def unit(rng: np.random.Generator, num: int) -> np.ndarray:
    """Vectors of length 1. float32 [num, WIDTH]."""
    vectors = rng.normal(size=(num, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds of this thread's own work that `work` takes, the middle of many times."""
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        work()
        times.append(1000 * (time.thread_time() - begin))
    return float(np.median(times))


def measure_index(num_posts: int, rounds: int, rng: np.random.Generator) -> dict[str, Any]:
    """Milliseconds of a search for `NUM_FOUND` posts, by what the index has gone through."""
    placed, query = unit(rng, num_posts), unit(rng, 1)
    index = PostIndex.build(np.arange(1, num_posts + 1), placed)
    topics = rng.integers(1, NUM_TOPICS + 1, (num_posts, 2))
    results = {"index of the bundle": median_ms(lambda: index.search(query, NUM_FOUND), rounds)}
    vectors = FaissVectors(index, topics, merge_after=10**9)

    def search(topics: list[tuple[int, ...]] | None = None) -> float:
        return median_ms(lambda: vectors.search(query, NUM_FOUND, topics), rounds)

    results["left alone"] = search()
    results[f"on one of {NUM_TOPICS} topics"] = search([(7,)])
    at = num_posts
    for num in (100, 1_000, 10_000):
        new = np.arange(at + 1, num_posts + num + 1)
        at = num_posts + num
        vectors.add(new, unit(rng, len(new)), new[:, None] % NUM_TOPICS + 1)
        results[f"beside {num} new posts"] = search()
    vectors.remove(rng.permutation(num_posts)[:1_000] + 1)
    results["and without 1000 removed"] = search()
    return results


def measure_shards(num_posts: int, rounds: int, rng: np.random.Generator) -> dict[str, Any]:
    """Milliseconds of a search over shards in this process: of all its threads, and by the clock.

    Interleaved, so that all see the same machine. Between processes come two hops of Ray's.
    """
    placed, ids = unit(rng, num_posts), np.arange(1, num_posts + 1)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def held(mine: np.ndarray) -> FaissVectors:
        return FaissVectors(PostIndex.build(ids[mine], placed[mine]), ids[mine][:, None])

    def asking(index: FaissVectors) -> Ask:
        def answer(question: Question) -> Answer:
            assert isinstance(question, Nearest)
            return Answer(*index.search(question.query, question.num_posts), len(index))

        return lambda question: asyncio.to_thread(answer, question)

    ways: dict[str, FaissVectors | ShardedVectors] = {"one index": held(ids > 0)}
    for num in (1, 2, 4, 8):
        parts = [Part(number, num).has(ids) for number in range(num)]
        asks = {str(number): asking(held(mine)) for number, mine in enumerate(parts)}
        ways[f"{num} shards"] = ShardedVectors(Shards(asks, loop, 60.0, 1.0), "", "posts")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        query = unit(rng, 1)
        for name, way in ways.items():
            begin = time.process_time(), time.perf_counter()
            way.search(query, NUM_FOUND)
            times[name].append((time.process_time() - begin[0], time.perf_counter() - begin[1]))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    middle = {name: 1000 * np.median(two, axis=0) for name, two in times.items()}
    return {name: {"cpu_ms": cpu, "wall_ms": wall} for name, (cpu, wall) in middle.items()}


def facts_of_nothing() -> Facts:
    """Nothing is known of any post or viewer."""
    ids = np.empty(0, np.int64)
    return Facts(
        post_id=ids,
        created_at_ms=np.zeros(1, np.int64),
        duration_s=np.full(1, np.nan, np.float32),
        topic=np.zeros((1, 3), np.int64),
        user_id=ids,
        attribute=np.zeros((1, 4), np.int64),
        rates={},
        content=np.zeros((1, 0), np.float32),
        codes=np.zeros((1, 0), np.int64),
    )


def measure_viewers(num_viewers: int, rng: np.random.Generator) -> dict[str, Any]:
    """Milliseconds per viewer whose vector is computed, and whose is kept; hits over time."""
    towers = TwoTower(RetrievalConfig(emb_size=WIDTH)).eval()
    spec, facts = towers.config.features, facts_of_nothing()

    def tower(inputs: Inputs) -> np.ndarray:
        with torch.inference_mode():
            return towers.user(tensors(inputs)).numpy()

    def history(user_id: int) -> History:
        num = spec.history_len
        ids = rng.integers(1, 10**6, num)
        ago_ms = np.sort(rng.exponential(3 * 86_400_000, num).astype(np.int64))[::-1]
        zeros = np.zeros(num, np.int64)
        dwell_s = np.full(num, np.nan, np.float32)
        return History(
            user_id, ids, ids % 1000, zeros + 16, zeros.astype("i2"), dwell_s, NOW_MS - ago_ms
        )

    viewers = ViewerVectors(tower, 10 * num_viewers)
    known = [history(user_id) for user_id in range(1, num_viewers + 1)]

    def ask(after_ms: int) -> tuple[float, float]:
        """Milliseconds a viewer, and the share of hits."""
        hits, begin = viewers.hits, time.thread_time()
        for one in known:
            rows = history_rows([one], [NOW_MS + after_ms])
            viewers.of(history_inputs(rows, spec, facts))
        spent_ms = 1000 * (time.thread_time() - begin) / num_viewers
        return spent_ms, (viewers.hits - hits) / num_viewers

    ask(-1000)  # warm
    results = {"computed": dict(zip(("ms", "hit_rate"), ask(10**10), strict=True))}
    for after_s in (0, 10, 60, 600, 3_600):
        ask(0)
        name = f"asked again after {after_s} s"
        results[name] = dict(zip(("ms", "hit_rate"), ask(1000 * after_s), strict=True))
        viewers = ViewerVectors(tower, 10 * num_viewers)
    return results


def report(num_posts: int, rounds: int, num_viewers: int, folder: Path = BENCH_REPORTS) -> Path:
    """Measure, and write the record and its page, to `folder` if not the repository's."""
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    about = {"load_before": os.getloadavg()[0]}
    found = measure_index(num_posts, rounds, rng)
    results = {
        "posts": num_posts,
        "posts_found": NUM_FOUND,
        "left_alone_over_index": found["left alone"] / found["index of the bundle"],
        "search_ms": found,
        "search_over_shards": measure_shards(num_posts, rounds, rng),
        "viewers": measure_viewers(num_viewers, rng),
    }
    origin = header("made up: tests.bench.bench_vectors", seeds=[0])
    return write("vectors_bench", {"header": origin | about, **results}, folder)


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_vectors")
    parser.add_argument("--posts", type=int, default=90_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--viewers", type=int, default=300)
    add_out(parser)
    args = parser.parse_args()
    print(f"{report(args.posts, args.rounds, args.viewers, args.out)}: written")


if __name__ == "__main__":
    main()

"""`python -m tests.bench.bench_vectors [--posts N]`: what new posts and kept viewers cost or save.

Searches of an index that was left alone, of the same beside posts added and taken out, and for
the posts on a topic; and vectors of viewers that are kept beside those that are computed. One
thread, so one core. Results go to train/reports/vectors_bench.json.
"""

from __future__ import annotations

import argparse
import os
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
from serve.viewer_vectors import ViewerVectors
from train.index import PostIndex
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import tensors
from train.report import header, write

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


def report(num_posts: int, rounds: int, num_viewers: int, folder: Path | None = None) -> Path:
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
        "viewers": measure_viewers(num_viewers, rng),
    }
    where = {} if folder is None else {"folder": folder}
    origin = header("made up: tests.bench.bench_vectors", seeds=[0])
    return write("vectors_bench", {"header": origin | about, **results}, **where)


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_vectors")
    parser.add_argument("--posts", type=int, default=90_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--viewers", type=int, default=300)
    parser.add_argument("--out", type=Path, help="folder of the report; without, train/reports")
    args = parser.parse_args()
    print(f"{report(args.posts, args.rounds, args.viewers, args.out)}: written")


if __name__ == "__main__":
    main()

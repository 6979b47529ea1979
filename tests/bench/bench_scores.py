"""`python -m tests.bench.bench_scores [--bundle DIR]`: what kept predictions save, and cost.

One viewer at a time is ranked with all candidates, contexts kept: without a score cache, with one
that has none of the candidates, and with one that has all of them (args.ranking.score_bytes). In
turns, this thread's own CPU time. Results go to tests/bench/reports/scores_bench.json, with a page.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serve.deployments import Ranker, RankerSettings
from serve.models import Ranking
from serve.stores.profiles import ProfileStore
from train.bundle import Bundle, load
from train.report import add_out, header, write

ROOM = 2**30


def rankings(bundle: Bundle, num_viewers: int, num_candidates: int) -> list[Ranking]:
    """Random viewers of the bundle, each with random posts, at the end of its log."""
    rng, profiles = np.random.default_rng(0), ProfileStore(bundle.profiles)
    post_id, author_id = (bundle.posts[name].to_numpy() for name in ("post_id", "author_id"))
    user_id = rng.choice(bundle.profiles["user_id"].to_numpy(), num_viewers, replace=False)
    asked = []
    for viewer in user_id.tolist():
        rows, history = rng.choice(len(post_id), num_candidates), profiles.history(viewer)
        assert history is not None  # they are of the bundle
        asked.append(Ranking(history, post_id[rows], author_id[rows], 1, bundle.as_of_ms))
    return asked


def measure(bundle: Bundle, num_viewers: int, num_candidates: int) -> dict[str, Any]:
    """Quantiles of each way, and what they take of the way without a score cache."""
    plain, caching = Ranker(bundle), Ranker(bundle, RankerSettings(score_bytes=ROOM))
    asked = rankings(bundle, num_viewers, num_candidates)
    for ranking in asked:
        for ranker in (plain, caching):  # whose contexts are kept from now on
            ranker.rank([ranking])
    ways: dict[str, list[float]] = {"without": [], "misses": [], "hits": []}
    difference = dict.fromkeys(ways, 0.0)
    for ranking in asked:
        assert caching._scores is not None
        for key in list(caching._scores._kept):
            caching._scores._kept.pop(key)
        answers = {}
        for way, ranker in zip(ways, (plain, caching, caching), strict=True):
            started = time.thread_time()
            answers[way] = ranker.rank([ranking])[0]
            ways[way].append(1000 * (time.thread_time() - started))
            apart = float(abs(answers[way] - answers["without"]).max())
            difference[way] = max(difference[way], apart)
    base = float(np.median(ways["without"]))
    return {
        way: {f"p{q}_ms": float(np.percentile(ms, q)) for q in (50, 95, 99)}
        | {"share of p50": float(np.median(ms)) / base, "largest difference": difference[way]}
        for way, ms in ways.items()
    }


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_scores")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--candidates", type=int, nargs="+", default=[20, 500, 1000])
    add_out(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bundle, load_before = load(args.bundle), os.getloadavg()[0]
    found = {f"{num} candidates": measure(bundle, args.viewers, num) for num in args.candidates}
    about = {"load_before": load_before, "viewers": args.viewers}
    record = {"header": header(bundle.card["data_fingerprint"], seeds=[0]) | about, **found}
    print(write("scores_bench", record, str(args.out)).read_text())


if __name__ == "__main__":
    main()

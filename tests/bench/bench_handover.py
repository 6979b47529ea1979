"""`python -m tests.bench.bench_handover`: what the Scorer gets the predictions by.

Two deployments and who calls them, as in the dag: one answers predictions at once, the other
multiplies them by weights, and the caller needs both. In turns, by gRPC as serving does it
(`awaited`: the caller waits for the predictions, then sends them on); by gRPC with the response
passed on unawaited; and by Ray's object store, where what is passed on is a reference. One page
at a time, and several at once. Results go to tests/bench/reports/handover_bench.json, with a page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.serving import cluster
from train.report import add_out, header, write

WAYS = ("awaited, gRPC", "response passed, gRPC", "response passed, by reference")
NUM_ACTIONS = 20


class Ranker:
    """Answers predictions for any number of candidates, which it does not compute."""

    async def rank(self, num_candidates: int) -> NDArray[np.float32]:
        """float32 [num_candidates, NUM_ACTIONS]."""
        return np.full((num_candidates, NUM_ACTIONS), 0.5, np.float32)


class Scorer:
    """The value model of serving."""

    async def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """float32 [C, NUM_ACTIONS] -> float64 [C]."""
        return p_action @ np.ones(NUM_ACTIONS)


class Handler:
    """Calls both."""

    def __init__(self, ranker: Any, scorer: Any) -> None:
        """Handles of both."""
        self._ranker, self._scorer = ranker, scorer

    async def ask(self, way: str, num_pages: int, num_candidates: int) -> list[float]:
        """Milliseconds of `num_pages` pages that are asked for at once."""

        async def page() -> float:
            started = time.perf_counter()
            # A reference is what a call by Ray's actors returns; gRPC's answers have none.
            by = {"_by_reference": way.endswith("reference")}
            asked = self._ranker.rank.options(**by).remote(num_candidates)
            passed = await asked if way.startswith("awaited") else asked
            value = await self._scorer.value.options(**by).remote(passed)
            p_action = await asked
            assert len(value) == len(p_action) == num_candidates
            return 1000 * (time.perf_counter() - started)

        return list(await asyncio.gather(*(page() for _ in range(num_pages))))


def measure(num_rounds: int, at_once: list[int], candidates: list[int]) -> list[dict[str, Any]]:
    """A row for each size and way: quantiles, pages a second, and time against the first way."""
    rows = []
    with cluster():
        from ray import serve  # not before: it reads its flags when imported

        deploy = serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
        parts = deploy(Ranker).bind(), deploy(Scorer).bind()
        handle = serve.run(deploy(Handler).bind(*parts), name="handover", route_prefix=None)
        handle._init(_run_router_in_separate_loop=True)  # there is no event loop here
        for num_candidates in candidates:
            for num_pages in at_once:
                took: dict[str, list[list[float]]] = {way: [] for way in WAYS}
                for step in range(num_rounds + num_rounds // 10):  # the first warm up
                    for way in WAYS:
                        told = handle.ask.remote(way, num_pages, num_candidates).result()
                        if step >= num_rounds // 10:
                            took[way].append(told)
                rows += _rows(took, {"candidates": num_candidates, "at once": num_pages})
    return rows


def _rows(took: dict[str, list[list[float]]], size: dict[str, int]) -> list[dict[str, Any]]:
    base = float(np.median(np.concatenate(took[WAYS[0]])))
    rows = []
    for way, rounds in took.items():
        p50, p95, p99 = np.percentile(np.concatenate(rounds), [50, 95, 99])
        ms = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "p50 of awaited": p50 / base}
        busy_s = sum(max(one) for one in rounds) / 1000
        per_s = {"pages a second": sum(map(len, rounds)) / busy_s}
        rows.append({"way": way} | size | {k: float(v) for k, v in (ms | per_s).items()})
    return rows


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_handover")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--candidates", type=int, nargs="+", default=[500, 5000])
    add_out(parser)
    args = parser.parse_args()
    load_before = os.getloadavg()[0]
    rows = measure(args.rounds, args.at_once, args.candidates)
    about = {"load_before": load_before, "rounds": args.rounds, "actions": NUM_ACTIONS}
    record = {"header": header("made up: this module", seeds=[]) | about, "ways": rows}
    print(write("handover_bench", record, str(args.out)).read_text())


if __name__ == "__main__":
    main()

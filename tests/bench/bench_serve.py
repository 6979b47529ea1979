"""`python -m tests.bench.bench_serve [--bundle DIR] [--seconds N]`: how fast feeds are served.

Deploys the bundle in both topologies, one after the other, and asks for pages of 20 posts
over HTTP. Closed loop: N clients that each ask again once they have an answer; gives the peak
rate. Open loop: requests leave at a constant rate whatever comes back, and are timed from when
they were due, so that a stall is seen in full. Viewers come again, so most pages are made from
what was scored for the one before. Then the same without that cache, every page made out of 500
candidates, which the ranker scores. The load generator is one process of this machine and takes
its share of the cores. Results go to train/reports/serve_bench.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import yaml
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipelines.runtime import connect
from serve.deploy import deploy, writing_to
from tests.bench.bench_load import CANDIDATES, EVERY_PAGE_ANEW
from tests.bench.load import LIMIT, Measured, closed_loop, open_loop
from train.bundle import load
from train.report import header, write

CONFIGS = {"dag": "configs/serve.yaml", "fused": "configs/serve_fused.yaml"}
CLIENTS = (1, 4, 16)  # closed loops
SHARES = (0.5, 0.8)  # open loops, as a share of the best closed loop
WARM_UP_S = 3.0


def measure(url: str, users: list[int], seconds: float) -> dict[str, Any]:
    """All loops against one deployment: loop -> its summary."""

    def run(loop: Callable[..., Awaitable[Measured]], load: float) -> dict[str, Any]:
        return asyncio.run(loop(url, users, load, seconds)).summary(seconds)  # type: ignore[arg-type]

    asyncio.run(closed_loop(url, users, 4, WARM_UP_S))
    results = {f"closed, {n} clients": run(closed_loop, n) for n in CLIENTS}
    best = max(result["rps"] for result in results.values())
    return results | {
        f"open, {share * best:.0f} per s": run(open_loop, share * best) for share in SHARES
    }


def measure_anew(url: str, users: list[int], seconds: float) -> dict[str, Any]:
    """Closed loops of pages that are each made from the start."""
    asyncio.run(closed_loop(url, users, 1, WARM_UP_S))
    return {
        f"{CANDIDATES} candidates, {n} client{'s' * (n > 1)}": asyncio.run(
            closed_loop(url, users, n, seconds)
        ).summary(seconds)
        for n in (1, 2, 4)
    }


def main() -> None:
    """Measure both topologies, print a table, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_serve")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each loop")
    args = parser.parse_args()
    bundle = load(args.bundle)
    users = np.random.default_rng(0).permutation(bundle.profiles["user_id"].to_numpy()).tolist()
    load_before = os.getloadavg()[0]
    results = {}
    for topology, config in CONFIGS.items():
        connect()
        from ray import serve  # after `connect`: it reads its flags when imported

        with tempfile.TemporaryDirectory() as event_log:
            changes = {"bundle": str(args.bundle.resolve()), **writing_to(event_log)}
            results[topology] = measure(deploy(config, changes), users, args.seconds)
            serve.shutdown()
            feed = Path(event_log) / "feed.yaml"
            feed.write_text(yaml.safe_dump(EVERY_PAGE_ANEW))
            url = deploy(config, {**changes, "feeds": {"timeline": str(feed)}})
            results[topology] |= measure_anew(url, users, args.seconds)
            serve.shutdown()
        ray.shutdown()
    _show(results)
    origin = header(bundle.card["data_fingerprint"], seeds=[0])
    about = {"load_before": load_before, "posts_per_page": LIMIT, "seconds": args.seconds}
    print(f"{write('serve_bench', {'header': origin | about, **results})}: written")


def _show(results: dict[str, dict[str, Any]]) -> None:
    names = ("rps", "p50_ms", "p95_ms", "p99_ms", "refused_503", "other_non_2xx", "degraded")
    table = Table("", "loop", *names, box=SIMPLE)
    for topology, loops in results.items():
        for name, loop in loops.items():
            table.add_row(topology, name, *(f"{loop[key]:.4g}" for key in names))
    Console().print(table)


if __name__ == "__main__":
    main()

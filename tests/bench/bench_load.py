"""`python -m tests.bench.bench_load [--bundle DIR] [--seconds N]`: what the served feed can carry.

Each page is made anew out of 500 candidates, which the ranker scores, unless a row says otherwise:
the fused topology, the dag, a server written by hand (tests/bench/plain_server.py), the fused one
with what earlier pages left (`usual`), and the dag as it is without any of what makes it fast:
Serve's defaults and no cache (`slow`). One after the other, several rounds of all; a value is the
median of the rounds. Open loop at a constant rate, then closed loops, whose best is the peak. The
load generator is one process of this machine and takes its share of the cores. Results go to
train/reports/load_bench.json, with a page and plots.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.load import closed_loop, open_loop, over_time, zipf
from tests.bench.serving import plain, served
from train.bundle import load
from train.report import REPORTS, header
from train.report_plots import Record, save, write_with_plots

CANDIDATES = 500
CLIENTS = (1, 2, 4, 8)
WARM_UP_S = 4.0
# Nothing is dropped before it is scored, and nothing is remembered.
EVERY_PAGE_ANEW = {
    "query_hydrators": {"cached_posts": None},
    "sources": {
        "two_tower": {"num_posts": CANDIDATES},
        **dict.fromkeys(("cached_posts", "in_network", "popular")),
    },
    "filters": dict.fromkeys(("age", "previously_seen", "previously_served")),
    "side_effects": {"candidate_cache": None},
}
NO_CACHES = {"ranking": {"context_bytes": 0}, "retrieval": {"cached_viewers": 1}}
SERVE_DEFAULTS = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
Server = Callable[[], AbstractContextManager[str]]  # gives the URL


def servers(bundle: str) -> dict[str, Server]:
    """What is held against what."""
    args = {"bundle": bundle}
    fused, dag = "configs/serve_fused.yaml", "configs/serve.yaml"
    return {
        "fused": partial(served, fused, args, EVERY_PAGE_ANEW),
        "dag": partial(served, dag, args, EVERY_PAGE_ANEW),
        "by hand": partial(plain, bundle, CANDIDATES),
        "fused, usual": partial(served, fused, args),
        "slow": partial(served, dag, args | NO_CACHES, EVERY_PAGE_ANEW, SERVE_DEFAULTS),
    }


def measure(
    server: Server, users: list[int], rate: float, seconds: float
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """One server: loop -> its summary; and when each answer of the open loop came."""
    with server() as url:
        asyncio.run(closed_loop(url, users, 2, WARM_UP_S))
        opened = asyncio.run(open_loop(url, users, rate, seconds))
        loops = {"open": opened.summary(seconds)}
        for clients in CLIENTS:
            closed = asyncio.run(closed_loop(url, users, clients, seconds))
            loops[f"closed {clients}"] = closed.summary(seconds)
    return loops, {"due_s": opened.due_s, "ms": opened.ms}


def medians(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each loop and value."""
    return {
        loop: {key: statistics.median(one[loop][key] for one in rounds) for key in values}
        for loop, values in rounds[0].items()
    }


def summary(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """One row a server: the open loop's times, the peak, and the ratios of the peaks."""
    rows: dict[str, Any] = {}
    for name, loops in found.items():
        peak = max(loop["rps"] for key, loop in loops.items() if key.startswith("closed"))
        rows[name] = {key: loops["open"][key] for key in ("p50_ms", "p95_ms", "p99_ms")}
        rows[name] |= {
            "peak_rps": peak,
            "refused_503": sum(loop["refused_503"] for loop in loops.values()),
            "other_non_2xx": sum(loop["other_non_2xx"] for loop in loops.values()),
            "degraded": sum(loop["degraded"] for loop in loops.values()),
        }
    for row in rows.values():
        row |= {
            f"times {base}": row["peak_rps"] / rows[base]["peak_rps"]
            for base in ("by hand", "slow")
            if base in rows
        }
    return rows


def peaks(record: Record, plt: Any) -> Any:
    """Good answers a second by the number of clients."""
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, loops in record["loops"].items():
        axes.plot(CLIENTS, [loops[f"closed {n}"]["rps"] for n in CLIENTS], "o-", label=name)
    axes.set(xlabel="clients, each asking again at once", ylabel="pages a second", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Measure all, print a table, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_load")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second, open loop")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of servers; without, all")
    parser.add_argument("--out", type=Path, default=REPORTS)
    args = parser.parse_args()
    bundle = load(args.bundle)
    users = zipf(bundle.profiles["user_id"].to_numpy(), 100_000)
    chosen = servers(str(args.bundle.resolve()))
    chosen = {name: chosen[name] for name in args.only or chosen}
    load_before = os.getloadavg()[0]
    rounds: dict[str, list[Any]] = {name: [] for name in chosen}
    points = {}
    for turn in range(args.rounds):
        for name, server in chosen.items():
            Console(stderr=True).print(f"round {turn + 1} of {args.rounds}: {name}")
            loops, points[name] = measure(server, users, args.rate, args.seconds)
            rounds[name].append(loops)
    found = {name: medians(turns) for name, turns in rounds.items()}
    about = {"load_before": load_before, "rate": args.rate, "seconds": args.seconds}
    about |= {"rounds": args.rounds, "candidates": CANDIDATES}
    record = {
        "header": header(bundle.card["data_fingerprint"], seeds=[0]) | about,
        "servers": summary(found),
        "loops": found,
    }

    def draw(written: Record, folder: Path) -> None:
        save(written, folder, [("peaks", peaks)])
        save({**written, "points": points}, folder, [("open_loop", over_time)])

    page = write_with_plots("load_bench", record, str(args.out), draw)
    print(page.read_text())


if __name__ == "__main__":
    main()

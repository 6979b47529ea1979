"""`python -m tests.bench.bench_load [--bundle DIR] [--seconds N]`: what the served feed can carry.

Each page is made anew out of 500 candidates, which the ranker scores, unless a row says otherwise:
the fused topology with one replica, with the two that configs/serve_fused.yaml grows to, and with
what earlier pages left beside (`usual`); the dag; a server written by hand
(tests/bench/plain_server.py); and the dag without any of what makes it fast: an eager ranker, no
cache, Serve's defaults (`slow`). In `usual` each of two replicas has viewers of its own, by
HAProxy. One after the other, several rounds of all; a value is the median of the rounds. Open loop
at a constant rate, then closed loops, whose best is the peak. Where the time of a page goes is told
by the feed's own metrics, over the first round's open loop. The load generator is one process of
this machine and takes its share of the cores. Results go to tests/bench/reports/load_bench.json,
with a page and plots.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from rich.console import Console

from tests.bench.load import closed_loop, open_loop, over_time, zipf
from tests.bench.serving import DAG, FUSED, Feed, config_of, plain, served, with_replicas
from train.bundle import load
from train.bundle.compiled import with_compiled
from train.models.package import CompileSettings
from train.report import add_out, header
from train.report_plots import Record, save, write_with_plots

CANDIDATES = 500
CLIENTS = (1, 2, 4, 8, 16)
_LONGEST = 12  # components that the page shows
WARM_UP = 2000  # pages, so that most of those who come have been there before
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
BY_HEADER = {"RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "hdr(x-session-id)"}
SERVE_DEFAULTS = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
Server = Callable[[], AbstractContextManager[Feed]]
_TOLD_EVERY_S = 12.0  # Ray passes metrics on every ten seconds
_LINE = re.compile(r"ray_rayfeed_component_ms_(sum|count)\{(.*)\} (\S+)")
_TAG = re.compile(r'(\w+)="([^"]*)"')


def servers(bundle: str, compiled: str) -> dict[str, Server]:
    """What is held against what; `compiled` is the same bundle with a compiled ranker."""
    args, dag = {"bundle": compiled, "ranking": {"machine_code": True}}, config_of(DAG)
    one, two = (with_replicas(FUSED, "FeedHandler", num) for num in (1, 2))
    slow = {"bundle": bundle, **NO_CACHES}
    return {
        "fused": partial(served, one, args, EVERY_PAGE_ANEW),
        "two fused": partial(served, two, args, EVERY_PAGE_ANEW),
        "dag": partial(served, dag, args, EVERY_PAGE_ANEW),
        "by hand": partial(plain, bundle, CANDIDATES),
        "two fused, usual": partial(served, two, args, None, BY_HEADER),
        "slow": partial(served, dag, slow, EVERY_PAGE_ANEW, SERVE_DEFAULTS),
    }


class Measured(NamedTuple):
    """Of one server in one round.

    Attributes:
        loops: loop -> its summary.
        points: when each answer of the open loop was due, and how long it took.
        spent_ms: "stage component" -> mean of its times; of a feed with metrics.
    """

    loops: dict[str, dict[str, float]]
    points: dict[str, list[float]]
    spent_ms: dict[str, float]


def measure(
    server: Server, users: list[int], rate: float, seconds: float, told_too: bool
) -> Measured:
    """One server under all loops; its own metrics where `told_too`, which takes half a minute."""
    turn = iter(users)
    with server() as feed:
        asyncio.run(closed_loop(feed.url, itertools.islice(turn, WARM_UP), CLIENTS[-1]))
        before = told(feed) if told_too else {}
        opened = asyncio.run(open_loop(feed.url, turn, rate, seconds))
        after = told(feed) if told_too else {}
        loops = {"open": opened.summary(seconds)}
        for clients in CLIENTS:
            closed = asyncio.run(closed_loop(feed.url, turn, clients, seconds))
            loops[f"closed {clients}"] = closed.summary(seconds)
    none = (0.0, 0.0)
    spent = {name: np.subtract(now, before.get(name, none)) for name, now in after.items()}
    spent_ms = {name: float(ms / num) for name, (ms, num) in spent.items() if num}
    return Measured(loops, {"due_s": opened.due_s, "ms": opened.ms}, spent_ms)


def told(feed: Feed) -> dict[str, tuple[float, float]]:
    """Milliseconds and turns of each "stage component" so far, once metrics tell of all of them."""
    if not feed.metrics:
        return {}
    time.sleep(_TOLD_EVERY_S)
    found: dict[str, dict[str, float]] = {}
    for what, tags, value in _LINE.findall(httpx.get(feed.metrics, timeout=10).text):
        place = dict(_TAG.findall(tags))
        name = f"{place['stage']} {place['component']}"
        of = found.setdefault(name, {"sum": 0.0, "count": 0.0})
        of[what] += float(value)  # of all replicas
    return {name: (of["sum"], of["count"]) for name, of in found.items()}


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


def where_time_goes(spent: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Mean ms of the components that take the longest anywhere, one row each.

    What waits for a model in another replica holds that hop: the difference of dag and fused.
    """
    told = [by for by in spent.values() if by]
    longest = {
        name: max(by.get(name, 0.0) for by in told) for name in {n for by in told for n in by}
    }
    names = sorted(longest, key=lambda name: -longest[name])[:_LONGEST]
    return {name: {server: by.get(name) for server, by in spent.items() if by} for name in names}


def peaks(record: Record, plt: Any) -> Any:
    """Good answers a second by the number of clients."""
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, loops in record["loops"].items():
        axes.plot(CLIENTS, [loops[f"closed {n}"]["rps"] for n in CLIENTS], "o-", label=name)
    axes.set(xlabel="clients, each asking again at once", ylabel="pages a second", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def report(rounds: dict[str, list[Measured]], origin: dict[str, Any], out: Path) -> Path:
    """Medians of the rounds so far, and plots of the last one."""
    found = {name: medians([one.loops for one in turns]) for name, turns in rounds.items()}
    record = {
        "header": origin,
        "servers": summary(found),
        "where the time goes, ms": where_time_goes({n: t[0].spent_ms for n, t in rounds.items()}),
        "loops": found,
    }
    points = {name: turns[-1].points for name, turns in rounds.items()}

    def draw(written: Record, folder: Path) -> None:
        save(written, folder, [("peaks", peaks)])
        save({**written, "points": points}, folder, [("open_loop", over_time)])

    return write_with_plots("load_bench", record, str(out), draw)


def main() -> None:
    """Measure all, print a table, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_load")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument(
        "--viewers", type=int, default=1000, help="who come, each as often as 1 / k"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second, open loop")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of servers; without, all")
    add_out(parser)
    args = parser.parse_args()
    bundle = load(args.bundle)
    viewers = np.random.default_rng(0).permutation(bundle.profiles["user_id"].to_numpy())
    users = zipf(viewers[: args.viewers], 100_000)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "compiled"
        with_compiled(args.bundle, compiled, CompileSettings())
        chosen = servers(str(args.bundle.resolve()), str(compiled))
        rounds: dict[str, list[Measured]] = {name: [] for name in args.only or chosen}
        for turn in range(args.rounds):
            for name, before in rounds.items():
                Console(stderr=True).print(f"round {turn + 1} of {args.rounds}: {name}")
                told_too = turn == 0
                before.append(measure(chosen[name], users, args.rate, args.seconds, told_too))
            about = {"load_before": load_before, "rate": args.rate, "seconds": args.seconds}
            about |= {"rounds": turn + 1, "candidates": CANDIDATES, "viewers": args.viewers}
            origin = header(bundle.card["data_fingerprint"], seeds=[0]) | about
            page = report(rounds, origin, args.out)  # after each, should a later one fail
    print(page.read_text())


if __name__ == "__main__":
    main()

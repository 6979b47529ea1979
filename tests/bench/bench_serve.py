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
import itertools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
from train.bundle import load
from train.report import header, write

CONFIGS = {"dag": "configs/serve.yaml", "fused": "configs/serve_fused.yaml"}
CLIENTS = (1, 4, 16)  # closed loops
SHARES = (0.5, 0.8)  # open loops, as a share of the best closed loop
LIMIT = 20  # posts per page
WARM_UP_S = 3.0
CANDIDATES = 500
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


@dataclass
class Measured:
    """Answers of one loop: milliseconds each took, and how many of each status."""

    ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    degraded: int = 0

    def note(self, started: float, status: int, body: bytes) -> None:
        """Keep one answer; `started` is when it was asked for, or due."""
        self.ms.append((time.perf_counter() - started) * 1000)
        self.statuses[status] += 1
        self.degraded += status == 200 and b'"degraded":[]' not in body

    def summary(self, seconds: float) -> dict[str, Any]:
        """Plain values for the report; times are of good answers and refusals alike."""
        good = self.statuses[200]
        return {
            "requests": len(self.ms),
            "rps": good / seconds,
            "p50_ms": float(np.percentile(self.ms, 50)),
            "p95_ms": float(np.percentile(self.ms, 95)),
            "p99_ms": float(np.percentile(self.ms, 99)),
            "non_2xx": len(self.ms) - good,
            "degraded": self.degraded,
        }


class Connection:
    """One HTTP/1.1 connection, kept alive; as little work per request as Python can do."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def feed(self, user_id: int) -> tuple[int, bytes]:
        """Ask for a page. Returns status and body.

        A kept connection may have been closed meanwhile, as when HAProxy reloads; it is
        opened anew once, as every HTTP client does.
        """
        if self._streams is not None:
            try:
                return await self._ask(user_id)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.close()
        self._streams = await asyncio.open_connection(self._host, self._port)
        return await self._ask(user_id)

    async def _ask(self, user_id: int) -> tuple[int, bytes]:
        assert self._streams is not None
        reader, writer = self._streams
        body = json.dumps({"user_id": user_id, "limit": LIMIT}).encode()
        writer.write(
            b"POST /v1/feed HTTP/1.1\r\nHost: feed\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await reader.readexactly(length)

    def close(self) -> None:
        """Hang up."""
        if self._streams:
            self._streams[1].close()


async def closed_loop(url: str, users: list[int], clients: int, seconds: float) -> Measured:
    """`clients` that each ask as soon as they have an answer."""
    measured, turn = Measured(), itertools.cycle(users)
    end = time.perf_counter() + seconds

    async def client() -> None:
        connection = Connection(url)
        while (started := time.perf_counter()) < end:
            measured.note(started, *await connection.feed(next(turn)))
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return measured


async def open_loop(url: str, users: list[int], rate: float, seconds: float) -> Measured:
    """`rate` requests per second, evenly spaced, whatever becomes of those before."""
    measured, idle = Measured(), []
    begin = time.perf_counter()

    async def ask(due: float, user_id: int) -> None:
        connection = idle.pop() if idle else Connection(url)
        measured.note(due, *await connection.feed(user_id))
        idle.append(connection)

    async with asyncio.TaskGroup() as requests:
        for number, user_id in zip(
            range(int(rate * seconds)), itertools.cycle(users), strict=False
        ):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            requests.create_task(ask(due, user_id))
    for connection in idle:
        connection.close()
    return measured


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
    table = Table(
        "", "loop", "rps", "p50 ms", "p95 ms", "p99 ms", "non-2xx", "degraded", box=SIMPLE
    )
    for topology, loops in results.items():
        for name, loop in loops.items():
            times = (f"{loop[key]:.1f}" for key in ("rps", "p50_ms", "p95_ms", "p99_ms"))
            table.add_row(topology, name, *times, str(loop["non_2xx"]), str(loop["degraded"]))
    Console().print(table)


if __name__ == "__main__":
    main()

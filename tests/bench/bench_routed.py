"""`python -m tests.bench.bench_routed [--bundle DIR]`: how often viewers find what is kept of them.

Two replicas keep viewers' contexts: those of the Ranker in the dag, those of the FeedHandler in the
fused topology. Requests reach any of them, or the viewer's own: in the dag by
`serve.viewer_router`, in the fused one by HAProxy, which hashes the header X-Session-Id. Visits are
a Zipf mix of some of the bundle's viewers, the same each way, and each page is made anew. A few
clients make one after the other, so that none is refused. `most possible` is the share of visits
that are not a viewer's first. Results go to
tests/bench/reports/routed_bench.json, with a page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tests.bench.bench_load import BY_HEADER, EVERY_PAGE_ANEW
from tests.bench.load import closed_loop, zipf
from tests.bench.serving import DAG, FUSED, deployed, with_replicas
from train.bundle import load
from train.report import add_out, header, write

CLIENTS = 3
CONTEXT_BYTES = 35_000  # of a viewer of the demo
KEEPERS = {"Ranker": DAG, "FeedHandler": FUSED}
# Who keeps contexts, whether viewers find their own, and what Ray starts with.
WAYS: list[tuple[str, bool, dict[str, str]]] = [
    ("Ranker", False, {}),
    ("Ranker", True, {}),
    ("FeedHandler", False, {}),
    ("FeedHandler", True, BY_HEADER),
]


def two_of(keeper: str, own: bool) -> dict[str, Any]:
    """The keeper's config file with two replicas of `keeper` and one of all else."""
    config = with_replicas(KEEPERS[keeper], keeper, 2)
    for deployment in config["applications"][0]["deployments"]:
        if not own:
            deployment.pop("request_router_config", None)
    return config


def stats_of(deployment: str) -> list[Mapping[str, float]]:
    """What each replica that keeps contexts did with them."""
    from ray import serve

    handle = serve.get_deployment_handle(deployment, "rayfeed")
    if not handle.is_initialized:
        handle._init(_run_router_in_separate_loop=True)  # there is no event loop here
    return handle.broadcast("stats").results()


def measure(
    keeper: str,
    own: bool,
    environment: Mapping[str, str],
    args: Mapping[str, Any],
    users: list[int],
) -> dict[str, Any]:
    """Deploy, let the users come, and say what became of their contexts."""
    os.environ.update(environment)
    try:
        with deployed(two_of(keeper, own), args, EVERY_PAGE_ANEW) as (url, _):
            started = time.perf_counter()
            measured = asyncio.run(closed_loop(url, users, CLIENTS))
            found = measured.summary(time.perf_counter() - started)
            stats = stats_of(keeper)
    finally:
        for name in environment:
            del os.environ[name]
    done = [{name: s[f"contexts_{name}"] for name in ("hits", "misses")} for s in stats]
    visits = sum(sum(d.values()) for d in done)
    return {
        "hit rate": sum(d["hits"] for d in done) / visits,
        "replicas": len(stats),
        "busier one's share": max(sum(d.values()) for d in done) / visits,
        "evictions": sum(s["contexts_evictions"] for s in stats),
        **{name: found[name] for name in ("rps", "p50_ms", "p99_ms", "refused_503", "degraded")},
    }


def main() -> None:
    """Measure each way, print a table, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_routed")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument("--viewers", type=int, default=200, help="who come at all")
    parser.add_argument("--visits", type=int, default=400)
    parser.add_argument("--kept", type=int, help="contexts a replica has room for; without, all")
    parser.add_argument("--only", nargs="+", default=list(KEEPERS), help="who keeps contexts")
    add_out(parser)
    args = parser.parse_args()
    bundle = load(args.bundle)
    user_id = np.random.default_rng(0).permutation(bundle.profiles["user_id"].to_numpy())
    users = zipf(user_id[: args.viewers], args.visits)
    room = {"ranking": {"context_bytes": args.kept * CONTEXT_BYTES}} if args.kept else {}
    load_before, rows = os.getloadavg()[0], dict[str, Any]()
    settings = {"bundle": str(args.bundle.resolve())} | room
    for keeper, own, environment in WAYS:
        if keeper not in args.only:
            continue
        name = f"{keeper}, {'own' if own else 'any'} replica"
        rows[name] = measure(keeper, own, environment, settings, users)
        Console(stderr=True).print({name: rows[name]})
    about = {"load_before": load_before, "viewers": args.viewers, "visits": args.visits}
    about["most_possible"] = 1 - len(set(users)) / len(users)
    record = {"header": header(bundle.card["data_fingerprint"], seeds=[0]) | about, "ways": rows}
    print(write("routed_bench", record, str(args.out)).read_text())


if __name__ == "__main__":
    main()

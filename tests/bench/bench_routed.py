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
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from serve.deploy import deploy, writing_to
from tests.bench.bench_load import EVERY_PAGE_ANEW
from tests.bench.load import Connection, Measured, zipf
from train.bundle import load
from train.report import add_out, header, write

CLIENTS = 3
BY_HEADER = {"RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "hdr(x-session-id)"}
CONTEXT_BYTES = 35_000  # of a viewer of the demo
CONFIGS = {"Ranker": "configs/serve.yaml", "FeedHandler": "configs/serve_fused.yaml"}
# Of each cluster: who keeps contexts, what Ray starts with, and whether viewers find their own.
CLUSTERS: list[tuple[str, dict[str, str], tuple[bool, ...]]] = [
    ("Ranker", {}, (False, True)),
    ("FeedHandler", {}, (False,)),
    ("FeedHandler", BY_HEADER, (True,)),
]


def two_of(keeper: str, own: bool) -> dict[str, Any]:
    """The keeper's config file with two replicas of `keeper` and one of all else."""
    values = yaml.safe_load(Path(CONFIGS[keeper]).read_text())
    for deployment in values["applications"][0]["deployments"]:
        del deployment["autoscaling_config"]
        deployment["num_replicas"] = 2 if deployment["name"] == keeper else 1
        if not own:
            deployment.pop("request_router_config", None)
    return values


@contextmanager
def cluster(environment: Mapping[str, str]) -> Iterator[None]:
    """A cluster that starts with these variables, which are gone after it."""
    import ray

    from pipelines.runtime import connect

    os.environ.update(environment)
    try:
        connect()
        yield
    finally:
        from ray import serve  # after `connect`: it reads its flags when imported

        serve.shutdown()
        ray.shutdown()
        for name in environment:
            del os.environ[name]


def stats_of(deployment: str) -> list[Mapping[str, float]]:
    """What each replica that keeps contexts did with them."""
    from ray import serve

    handle = serve.get_deployment_handle(deployment, "rayfeed")
    if not handle.is_initialized:
        handle._init(_run_router_in_separate_loop=True)  # there is no event loop here
    return handle.broadcast("stats").results()


async def visit(url: str, users: list[int]) -> Measured:
    """Each visit once, as soon as one of the clients has had its last answer."""
    measured, turn, begin = Measured(), iter(users), time.perf_counter()

    async def client() -> None:
        connection = Connection(url)
        for user_id in turn:
            asked_s = time.perf_counter() - begin
            answer = await connection.feed(user_id)
            measured.note(asked_s, (time.perf_counter() - begin - asked_s) * 1000, *answer)
        connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return measured


def measure(
    keeper: str, config: Mapping[str, Any], args: Mapping[str, Any], users: list[int]
) -> dict[str, Any]:
    """Deploy, let the users come, and say what became of their contexts."""
    from ray import serve

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path, feed = Path(folder) / "serve.yaml", Path(folder) / "feed.yaml"
        path.write_text(yaml.safe_dump(dict(config)))
        feed.write_text(yaml.safe_dump(EVERY_PAGE_ANEW))
        url = deploy(path, {**args, **writing_to(folder), "feeds": {"timeline": str(feed)}})
        started = time.perf_counter()
        measured = asyncio.run(visit(url, users))
        found = measured.summary(time.perf_counter() - started)
        stats = stats_of(keeper)
        serve.delete("rayfeed")
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
    parser.add_argument("--only", nargs="+", default=list(CONFIGS), help="who keeps contexts")
    add_out(parser)
    args = parser.parse_args()
    bundle = load(args.bundle)
    user_id = np.random.default_rng(0).permutation(bundle.profiles["user_id"].to_numpy())
    users = zipf(user_id[: args.viewers], args.visits)
    room = {"ranking": {"context_bytes": args.kept * CONTEXT_BYTES}} if args.kept else {}
    load_before, rows = os.getloadavg()[0], dict[str, Any]()
    for keeper, environment, ways in CLUSTERS:
        if keeper not in args.only:
            continue
        with cluster(environment):
            for own in ways:
                name = f"{keeper}, {'own' if own else 'any'} replica"
                config, settings = two_of(keeper, own), {"bundle": str(args.bundle.resolve())}
                rows[name] = measure(keeper, config, settings | room, users)
                Console(stderr=True).print({name: rows[name]})
    about = {"load_before": load_before, "viewers": args.viewers, "visits": args.visits}
    about["most_possible"] = 1 - len(set(users)) / len(users)
    record = {"header": header(bundle.card["data_fingerprint"], seeds=[0]) | about, "ways": rows}
    print(write("routed_bench", record, str(args.out)).read_text())


if __name__ == "__main__":
    main()

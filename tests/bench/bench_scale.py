"""`python -m tests.bench.bench_scale [--parts PART ...]`: the served feed while things change.

steps: the load goes to four times as much and back; do replicas follow, and what do clients notice?
rolls: another bundle is swapped in, then replicas are replaced, while requests go on.
replicas: rankings a second that one replica of the Ranker answers, and two.
memory: what the replicas of a feed under steady load hold, minute by minute.

Requests leave at a constant rate (tests/bench/load.py), from a process that also samples the
cluster; it takes its share of the cores. Results go to tests/bench/reports/scale_bench.json part by
part, with a page and plots.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import yaml
from rich.console import Console

from pipelines.features import History
from pipelines.runtime import connect
from serve.deploy import deploy, writing_to
from serve.models import Ranking
from tests.bench.load import Measured, closed_loop, open_loop, zipf
from train.bundle import Bundle, load
from train.report import add_out, header
from train.report_parts import last_record
from train.report_plots import Record, save, write_with_plots

NAME = "scale_bench"
POINTS = "points"  # of a part: for its plot, and too many for the report
DAG, FUSED = "configs/serve.yaml", "configs/serve_fused.yaml"
_EVERY_S = 0.5  # between two looks at the cluster
_WARM_UP_S = 5.0
_SMALL_BYTES = 8 * 2**20  # of each cache of viewers, where memory is what is measured
# As quick as the steps below are short; the defaults wait longer before they act.
_EAGER = {
    "target_ongoing_requests": 1,
    "look_back_period_s": 5,
    "upscale_delay_s": 2,
    "downscale_delay_s": 10,
}
_LIMITS = {"min_replicas": 1, "max_replicas": 2}


@contextmanager
def deployed(
    config: str, args: Mapping[str, Any], autoscaling: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Callable[..., str]]]:
    """A Serve config file on a cluster of this process's own; gives its URL and a way to change it.

    Args:
        config: path of the file.
        args: what differs in the application's `args`.
        autoscaling: what differs in that of each deployment.
    """
    # What ends may still write when its folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def change(
            args: Mapping[str, Any],
            autoscaling: Mapping[str, Any] | None = None,
            user_config: Mapping[str, Any] | None = None,
        ) -> str:
            values = yaml.safe_load(Path(config).read_text())
            for deployment in values["applications"][0]["deployments"]:
                deployment["autoscaling_config"] |= autoscaling or {}
                if user_config:
                    deployment["user_config"] = dict(user_config)
            path = Path(folder) / "serve.yaml"
            path.write_text(yaml.safe_dump(values))
            return deploy(path, {**args, **writing_to(folder)})

        connect()
        from ray import serve  # after `connect`: it reads its flags when imported

        try:
            yield change(args, autoscaling), change
        finally:
            serve.shutdown()
            ray.shutdown()


@contextmanager
def sampled(look: Callable[[], dict[str, float]]) -> Iterator[list[dict[str, float]]]:
    """What `look` sees every half second while the block runs, and at what second."""
    seen: list[dict[str, float]] = []
    begin, ended = time.perf_counter(), threading.Event()

    def run() -> None:
        while not ended.wait(_EVERY_S):
            seen.append({"at_s": time.perf_counter() - begin, **look()})

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def running() -> dict[str, float]:
    """Replicas of each deployment that serve."""
    from ray import serve

    (application,) = serve.status().applications.values()
    return {
        name: float(d.replica_states.get("RUNNING", 0))
        for name, d in application.deployments.items()
    }


def replica_of(deployment: str) -> psutil.Process:
    """The process of the one replica of a deployment of this process's cluster."""
    title = f"ServeReplica:rayfeed:{deployment}"
    (found,) = (
        process
        for process in psutil.Process().children(recursive=True)
        if title in " ".join(process.cmdline())
    )
    return found


def steps(bundle: Path, users: list[int], rate: float, seconds: float) -> dict[str, Any]:
    """One rate, four times as much, and the first again; each for `seconds`."""
    with deployed(FUSED, {"bundle": str(bundle)}, _EAGER | _LIMITS) as (url, _):
        asyncio.run(open_loop(url, users, rate, seconds / 2))
        loops: dict[str, Measured] = {}
        with sampled(running) as seen:
            for name, factor in (("1x", 1), ("4x", 4), ("1x again", 1)):
                loops[name] = asyncio.run(open_loop(url, users, factor * rate, seconds))
    replicas = [one["FeedHandler"] for one in seen]
    at_s = [one["at_s"] for one in seen]
    up_s = next((t for t, n in zip(at_s, replicas, strict=True) if n > 1), None)
    last = max((t for t, n in zip(at_s, replicas, strict=True) if n > 1), default=None)
    down_s = last if last is not None and replicas[-1] == 1 else None
    begins = [0.0, seconds, 2 * seconds]
    return {
        "rate": rate,
        "seconds": seconds,
        "scaled up after s": up_s and up_s - begins[1],
        "scaled down after s": down_s and down_s - begins[2],
        "loops": {name: loop.summary(seconds) for name, loop in loops.items()},
        POINTS: {"at_s": at_s, "running": replicas, **_points(loops.values(), begins)},
    }


def rolls(bundle: Path, users: list[int], rate: float, seconds: float) -> dict[str, Any]:
    """Each topology: a bundle swapped in place, then replicas replaced, under a constant rate."""
    found: dict[str, Any] = {"rate": rate}
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        shutil.copytree(bundle, other)
        for topology, config in (("fused", FUSED), ("dag", DAG)):
            first, second = {"bundle": str(bundle)}, {"bundle": str(other)}
            with deployed(config, first) as (url, change):
                asyncio.run(closed_loop(url, users, 2, _WARM_UP_S))
                for name, roll in (
                    ("swapped in place", partial(change, first, user_config=second)),
                    ("replicas replaced", partial(change, second)),
                ):
                    took_s, loop = _while_rolling(url, users, rate, seconds, roll)
                    summary = loop.summary(loop.due_s[-1])
                    found.setdefault("loops", {})[f"{topology}, {name}"] = {
                        "roll_s": took_s,
                        **summary,
                    }
    return found


def _while_rolling(
    url: str, users: list[int], rate: float, seconds: float, roll: Callable[[], object]
) -> tuple[float, Measured]:
    """`roll` a few seconds after the load began; the load goes on for `seconds` after it."""
    measured, took = Measured(), 0.0

    async def run() -> None:
        nonlocal took
        rolling = asyncio.create_task(_after(3.0, roll))
        at = 0
        while not rolling.done():
            more = await open_loop(url, users[at:], rate, 2.0)
            measured.add(more, at / rate)
            at += len(more.ms)
        took = rolling.result()
        measured.add(await open_loop(url, users[at:], rate, seconds), at / rate)

    asyncio.run(run())
    return took, measured


async def _after(wait_s: float, work: Callable[[], object]) -> float:
    """How many seconds `work` took, on a thread."""
    await asyncio.sleep(wait_s)
    begin = time.perf_counter()
    await asyncio.to_thread(work)
    return time.perf_counter() - begin


def replicas(bundle: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Rankings a second by one replica of the Ranker and by two, in turn.

    Each ranks 2,000 posts for a viewer with no history, eight at a time: nothing is kept and
    little is sent, so that the stage is what takes the time.
    """
    post_id = np.resize(load(bundle).posts["post_id"].to_numpy(), 2_000)
    asked = Ranking(History.empty(1), post_id, np.ones_like(post_id), surface=1, at_ms=1)
    rates: dict[int, list[float]] = {1: [], 2: []}
    args = {"bundle": str(bundle), "ranking": {"context_bytes": 0}}
    loop = asyncio.new_event_loop()  # open for as long as the handle of `measure`
    with deployed(DAG, args) as (_, change):
        from ray import serve

        async def client(handle: Any, until_s: float) -> int:
            num = 0
            while time.perf_counter() < until_s:
                await handle.remote(asked)
                num += 1
            return num

        async def clients(handle: Any, for_s: float) -> float:
            begin = time.perf_counter()
            done = await asyncio.gather(*(client(handle, begin + for_s) for _ in range(8)))
            return sum(done) / (time.perf_counter() - begin)

        async def measure() -> None:
            ranker = serve.get_deployment_handle("Ranker", "rayfeed")  # belongs to this loop
            handle = ranker.options(method_name="rank")
            for _ in range(rounds):
                for num in rates:
                    limits = {"min_replicas": num, "max_replicas": num}
                    await asyncio.to_thread(change, args, limits)
                    while (await asyncio.to_thread(running))["Ranker"] != num:
                        await asyncio.sleep(_EVERY_S)
                    await clients(handle, 2.0)
                    rates[num].append(await clients(handle, seconds))

        loop.run_until_complete(measure())
    loop.close()
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    return {
        "posts": len(post_id),
        "rankings per s": {f"{n} replicas": statistics.median(r) for n, r in rates.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def memory(bundle: Path, users: list[int], rate: float, minutes: float) -> dict[str, Any]:
    """The fused feed at a constant rate; of the first third of the time nothing is concluded.

    What it keeps of viewers is bounded by less than it is usually, and so is full before that.
    """
    args = {
        "bundle": str(bundle),
        "limits": {"cached_bytes": _SMALL_BYTES},
        "ranking": {"context_bytes": _SMALL_BYTES},
        "retrieval": {"cached_viewers": 100},
    }
    with deployed(FUSED, args, {"max_replicas": 1}) as (url, _):
        process = replica_of("FeedHandler")
        with sampled(lambda: {"mb": process.memory_info().rss / 2**20}) as seen:
            loop = asyncio.run(open_loop(url, users, rate, 60 * minutes))
    at_min, mb = (np.array([one[key] for one in seen]) for key in ("at_s", "mb"))
    at_min /= 60
    late = at_min > minutes / 3
    slope, _ = np.polyfit(at_min[late], mb[late], 1)
    return {
        "rate": rate,
        "minutes": minutes,
        "loop": loop.summary(60 * minutes),
        "MB at a third": float(np.median(mb[late][:60])),
        "MB at the end": float(np.median(mb[-60:])),
        "MB a minute": float(slope),
        POINTS: {"at_min": at_min.tolist(), "mb": mb.tolist()},
    }


def _points(loops: Sequence[Measured] | Any, begins: Sequence[float]) -> dict[str, list[float]]:
    """Every answer of loops that began one after the other."""
    whole = Measured()
    for loop, begin in zip(loops, begins, strict=True):
        whole.add(loop, begin)
    return {"due_s": whole.due_s, "ms": whole.ms}


def of_steps(record: Record, plt: Any) -> Any:
    """Replicas and how long answers took, while the load changed."""
    if POINTS not in record.get("steps", {}):
        return None
    part = record["steps"]
    points = part[POINTS]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 4), sharex=True, layout="constrained", height_ratios=(2, 1)
    )
    above.plot(points["due_s"], points["ms"], ".", markersize=2)
    above.set(ylabel="answered after, ms", yscale="log")
    below.step(points["at_s"], points["running"], where="post")
    below.set(xlabel="s", ylabel="replicas", ylim=(0, None))
    for axes in (above, below):
        for turn in (1, 2):
            axes.axvline(turn * part["seconds"], color="grey", linewidth=0.8)
    return figure


def of_memory(record: Record, plt: Any) -> Any:
    """Memory by the minute."""
    if POINTS not in record.get("memory", {}):
        return None
    held = record["memory"][POINTS]
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.plot(held["at_min"], held["mb"])
    axes.set(xlabel="minutes under load", ylabel="MB resident, FeedHandler", ylim=(0, None))
    return figure


def _draw(points: Record, written: Record, folder: Path) -> None:
    save({**written, **points}, folder, [("steps", of_steps), ("memory", of_memory)])


def main() -> None:
    """Measure the parts that are asked for, and write them beside what the report holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_scale")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parts = ("steps", "rolls", "replicas", "memory")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--rate", type=float, default=8.0, help="requests a second; of the steps")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each step")
    parser.add_argument("--rounds", type=int, default=3, help="of the replicas' turns")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the memory's load")
    add_out(parser)
    args = parser.parse_args()
    args.bundle = args.bundle.resolve()
    bundle: Bundle = load(args.bundle)
    users = zipf(bundle.profiles["user_id"].to_numpy(), 200_000)
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "steps": lambda: steps(args.bundle, users, args.rate, args.seconds),
        "rolls": lambda: rolls(args.bundle, users, args.rate, 5.0),
        "replicas": lambda: replicas(args.bundle, args.rounds, 8.0),
        "memory": lambda: memory(args.bundle, users, args.rate, args.minutes),
    }
    record = last_record(args.out / f"{NAME}.json")
    for part in args.parts:
        Console(stderr=True).print(part)
        origin = header(bundle.card["data_fingerprint"], seeds=[0])
        about = {"load_before": os.getloadavg()[0], "git_commit": origin["git_commit"]}
        found = measure[part]()
        points = {part: found | {POINTS: found.pop(POINTS, None)}}
        record = {**record, "header": origin, part: {**about, **found}}
        page = write_with_plots(NAME, record, str(args.out), partial(_draw, points))
    print(page.read_text())


if __name__ == "__main__":
    main()

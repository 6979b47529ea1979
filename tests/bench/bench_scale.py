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
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serve.admission import Limits
from tests.bench import two_replicas
from tests.bench.bench_load import EVERY_PAGE_ANEW
from tests.bench.load import Measured, closed_loop, open_loop, zipf
from tests.bench.serving import DAG, FUSED, config_of, deployed, replicas_now, settle, with_replicas
from train.bundle import Bundle, load
from train.report import add_out, header
from train.report_parts import last_record
from train.report_plots import Record, save, write_with_plots

NAME = "scale_bench"
POINTS = "points"  # of a part: for its plot, and too many for the report
_CLIENTS = 4  # of the loop that asks for the peak
_OF_PEAK = 0.9  # what four times the load is, of what one replica can do
_BEFORE_S, _AFTER_S, _GIVE_UP_S = 3.0, 5.0, 600.0  # a roll: load before it, after it, and at most
_SMALL_BYTES = 8 * 2**20  # of each cache of viewers, where memory is what is measured
_WARM_UP_S, _PILED_UP_S = 4.0, 30.0
_EVERY_S = 0.5  # between two looks at the cluster
# As quick as the steps are short; what is served usually waits longer before it acts.
_EAGER = {
    "min_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 1,  # so few that two replicas of 4x do not look idle
    "metrics_interval_s": 1,
    "look_back_period_s": 5,
    "upscale_delay_s": 2,
    "downscale_delay_s": 15,
}


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


def steps(bundle: Path, users: list[int], seconds: float) -> dict[str, Any]:
    """One rate, four times as much, and the first again; each for `seconds`.

    Each page is made anew out of 500 candidates, and four times as much is nine tenths of what
    one replica gives here and now.
    """
    config = config_of(FUSED, {"autoscaling_config": _EAGER})
    one = with_replicas(FUSED, "FeedHandler", 1)
    args = {"bundle": str(bundle)}
    with deployed(one, args, EVERY_PAGE_ANEW) as (url, change):
        asyncio.run(closed_loop(url, users, _CLIENTS, _WARM_UP_S))
        peak = asyncio.run(closed_loop(url, users, _CLIENTS, seconds / 4)).statuses[200]
        peak_rps = peak / (seconds / 4)
        rate = _OF_PEAK * peak_rps / 4
        change(config, args)
        settle()
        loops: dict[str, Measured] = {}
        begins: list[float] = []
        with sampled(partial(replicas_now, "FeedHandler")) as seen:
            begin = time.perf_counter()
            for name, factor in (("1x", 1), ("4x", 4), ("1x again", 1)):
                begins.append(time.perf_counter() - begin)
                loops[name] = asyncio.run(open_loop(url, users, factor * rate, seconds))
    whole = Measured()
    for loop, begin_s in zip(loops.values(), begins, strict=True):
        whole.add(loop, begin_s)
    return {
        "seconds": seconds,
        "peak of one replica, rps": peak_rps,
        "rate of 1x, rps": rate,
        **followed(seen, *begins),
        "loops": {name: loop.summary(seconds) for name, loop in loops.items()},
        POINTS: {"seen": seen, "begins": begins, "due_s": whole.due_s, "ms": whole.ms},
    }


def followed(
    seen: Sequence[dict[str, float]], begin: float, up: float, down: float
) -> dict[str, float | None]:
    """How long after the load rose a second replica was asked for and served, and when it went.

    None = it was there before the load rose, or did not come, or did not go.

    Args:
        seen: "wanted" and "running" replicas "at_s", in order.
        begin: when the low load began; seconds, as all.
        up: when it rose.
        down: when it fell.
    """

    def first(holds: Callable[[dict[str, float]], bool], since: float) -> float | None:
        return next((s["at_s"] for s in seen if s["at_s"] >= since and holds(s)), None)

    asked = first(lambda s: s["wanted"] > 1, begin)
    served = first(lambda s: s["running"] > 1, begin)
    gone = first(lambda s: s["wanted"] == 1, max(served, down)) if served is not None else None
    return {
        "second replica asked for after s": None if asked is None or asked < up else asked - up,
        "second replica serves after s": None if served is None or served < up else served - up,
        "one replica again after s": None if gone is None else gone - down,
    }


def rolls(bundle: Path, users: list[int], rate: float) -> dict[str, Any]:
    """Each topology: a bundle swapped in place, then replicas replaced, under a constant rate."""
    loops: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        first = {"bundle": str(bundle)}
        second, third = ({"bundle": _version(bundle, folder, name)} for name in ("second", "third"))
        for topology, file in (("fused", FUSED), ("dag", DAG)):
            with deployed(config_of(file), first) as (url, change):
                asyncio.run(closed_loop(url, users, _CLIENTS, _WARM_UP_S))
                for name, config, args in (
                    ("swapped in place", config_of(file, {"user_config": second}), first),
                    ("replicas replaced", config_of(file), third),
                ):
                    roll = partial(change, config, args)
                    took_s, loop = asyncio.run(_while_rolling(url, users, rate, roll))
                    summary = loop.summary(max(loop.due_s))
                    loops[f"{topology}, {name}"] = {"roll_s": took_s, **summary}
    return {"rate": rate, "loops": loops}


def _version(bundle: Path, folder: str, name: str) -> str:
    """The same models as of another run: whatever is kept by version is made anew."""
    other = Path(folder) / name
    shutil.copytree(bundle, other)
    card = json.loads((other / "card.json").read_text())
    (other / "card.json").write_text(json.dumps({**card, "name": name}))
    return str(other)


async def _while_rolling(
    url: str, users: list[int], rate: float, roll: Callable[[], object]
) -> tuple[float, Measured]:
    """How long `roll` took, and the answers from a little before it until a little after."""

    async def rolled() -> float:
        await asyncio.sleep(_BEFORE_S)
        begin = time.perf_counter()
        await asyncio.to_thread(roll)
        await asyncio.to_thread(settle)
        took_s = time.perf_counter() - begin
        await asyncio.sleep(_AFTER_S)
        return took_s

    rolling = asyncio.create_task(rolled())
    loop = await open_loop(url, users, rate, _GIVE_UP_S, ended=rolling.done)
    return await rolling, loop


def memory(bundle: Path, users: list[int], rate: float, minutes: float) -> dict[str, Any]:
    """The fused feed at a constant rate; of the first third of the time nothing is concluded.

    What it keeps of viewers is bounded by less than it is usually, and so is full before that.
    First it makes as many pages at once as it ever does, since memory that was needed once stays:
    work of others on the machine, which makes pages pile up, would look like growth.
    """
    args = {
        "bundle": str(bundle),
        "limits": {"cached_bytes": _SMALL_BYTES},
        "ranking": {"context_bytes": _SMALL_BYTES},
        "retrieval": {"cached_viewers": 100},
    }
    config = with_replicas(FUSED, "FeedHandler", 1)
    with deployed(config, args) as (url, _):
        (process,) = two_replicas.replicas_of("FeedHandler")
        asyncio.run(closed_loop(url, users, Limits().max_in_flight, _PILED_UP_S))
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


def of_steps(record: Record, plt: Any) -> Any:
    """Replicas and how long answers took, while the load changed."""
    if not (points := record.get("steps", {}).get(POINTS)):
        return None
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 4), sharex=True, layout="constrained", height_ratios=(2, 1)
    )
    above.plot(points["due_s"], points["ms"], ".", markersize=2)
    above.set(ylabel="answered after, ms", yscale="log")
    at_s = [one["at_s"] for one in points["seen"]]
    for name, label in (("wanted", "serving or starting"), ("running", "serving")):
        below.step(at_s, [one[name] for one in points["seen"]], where="post", label=label)
    below.set(xlabel="s", ylabel="replicas", ylim=(0, None))
    below.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.5), ncols=2)
    for axes in (above, below):
        for turn in points["begins"][1:]:
            axes.axvline(turn, color="grey", linewidth=0.8)
    return figure


def of_memory(record: Record, plt: Any) -> Any:
    """Memory by the minute."""
    if not (held := record.get("memory", {}).get(POINTS)):
        return None
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
    parser.add_argument("--rate", type=float, default=8.0, help="a second; of rolls and memory")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each step")
    parser.add_argument("--rounds", type=int, default=3, help="of the replicas' turns")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the memory's load")
    add_out(parser)
    args = parser.parse_args()
    args.bundle = args.bundle.resolve()
    bundle: Bundle = load(args.bundle)
    users = zipf(bundle.profiles["user_id"].to_numpy(), 200_000)
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "steps": lambda: steps(args.bundle, users, args.seconds),
        "rolls": lambda: rolls(args.bundle, users, args.rate),
        "replicas": lambda: two_replicas.measure(args.bundle, args.rounds, 8.0),
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

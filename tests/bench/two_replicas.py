"""What a second replica of a stage that computes is worth, and what it could be worth at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from pipelines.features import History
from serve.deployments import Ranker, RankerSettings
from serve.models import Ranking
from tests.bench.serving import DAG, deployed, handle_of, replicas_now, with_replicas
from train.bundle import Bundle, load

POSTS = 8_000
_CLIENTS = 4  # of each replica: what is asked while it ranks for some is the next pass
_WARM_UP_S, _EVERY_S = 2.0, 0.2


def measure(bundle: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Rankings a second by one replica of the Ranker and by two, in turn with plain processes.

    Each ranks 8,000 posts for a viewer with no history, and nothing is kept: little is sent and
    much computed, since who asks and the rest of the cluster use the same cores. One plain process
    that does nothing else, and two at once, say how much the machine gives for a second core.
    """
    rates: dict[str, list[float]] = {}
    cores: dict[str, list[dict[str, float]]] = {}
    costs: dict[str, list[dict[str, float]]] = {}
    args = {"bundle": str(bundle), "ranking": {"context_bytes": 0}}
    # One thread of NumPy's own, too, as a replica has.
    with (
        pytest.MonkeyPatch.context() as environment,
        ProcessPoolExecutor(2, get_context("spawn")) as pool,
    ):
        environment.setenv("OMP_NUM_THREADS", "1")

        def plainly(num: int, for_s: float) -> float:
            return sum(pool.map(_rankings_per_s, [bundle] * num, [for_s] * num))

        plainly(2, _WARM_UP_S)  # before the cluster, which ends what was started after it
        with deployed(with_replicas(DAG, "Ranker", 1), args) as (_, change):
            asked = _asked(load(bundle))
            handle = handle_of("Ranker", "rank")
            for _ in range(rounds):
                for num in (1, 2):
                    plain = plainly(num, seconds)
                    rates.setdefault(f"{num} plain", []).append(plain)
                    change(with_replicas(DAG, "Ranker", num), args)
                    # One that starts or stops is a process too, and takes time from the others.
                    while (
                        replicas_now("Ranker")["running"] != num
                        or len(running := replicas_of("Ranker")) != num
                    ):
                        time.sleep(_EVERY_S)
                    _answers_per_s(handle, asked, num, _WARM_UP_S)
                    before = cpu_s(running)
                    rate = _answers_per_s(handle, asked, num, seconds)
                    after = cpu_s(running)
                    rates.setdefault(f"{num} replicas", []).append(rate)
                    used = {name: (after[name] - before[name]) / seconds for name in before}
                    cores.setdefault(f"{num} replicas", []).append(used)
                    costs.setdefault(f"{num} replicas", []).append(cpu_ms(used, rate))
    used_too = {"cores used": medians(cores), "CPU ms per ranking": medians(costs)}
    return {"posts": POSTS, **summary(rates), **used_too}


def summary(rates: Mapping[str, list[float]]) -> dict[str, Any]:
    """Medians, and of ratios that were taken in the same round."""
    ratios, limits = (
        [two / one for one, two in zip(rates[f"1 {of}"], rates[f"2 {of}"], strict=True)]
        for of in ("replicas", "plain")
    )
    shares = [ratio / limit for ratio, limit in zip(ratios, limits, strict=True)]
    return {
        "rankings per s": {name: statistics.median(each) for name, each in rates.items()},
        "ratio": statistics.median(ratios),
        "ratio of plain processes": statistics.median(limits),
        "share of the limit": statistics.median(shares),
        "ratios": ratios,
        "ratios of plain processes": limits,
    }


def cpu_ms(cores: Mapping[str, float], rate: float) -> dict[str, float]:
    """What one ranking costs, which other work on the machine hardly changes."""
    replicas = sum(used for name, used in cores.items() if name.startswith("replica "))
    return {"to rank": 1000 * replicas / rate, "to ask": 1000 * cores["who asks"] / rate}


def medians(rounds: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each value, of each row."""
    return {
        name: {key: statistics.median(one[key] for one in each) for key in each[0]}
        for name, each in rounds.items()
    }


def replicas_of(deployment: str) -> list[psutil.Process]:
    """The processes of a deployment's replicas on this process's cluster."""
    title = f"ServeReplica:rayfeed:{deployment}"
    return [one for one in psutil.Process().children(recursive=True) if title in _title(one)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def cpu_s(replicas: list[psutil.Process]) -> dict[str, float]:
    """CPU seconds so far: each replica's, of what asks them, and of the rest of the machine."""
    mine = {f"replica {n}": _spent_s(one) for n, one in enumerate(replicas, start=1)}
    mine["who asks"] = _spent_s(psutil.Process())
    whole = psutil.cpu_times()
    busy = sum(whole) - whole.idle - whole.iowait - whole.guest - whole.guest_nice
    return {**mine, "all else": busy - sum(mine.values())}


def _spent_s(process: psutil.Process) -> float:
    return process.cpu_times().user + process.cpu_times().system


def _asked(bundle: Bundle) -> Ranking:
    post_id = np.resize(bundle.posts["post_id"].to_numpy(), POSTS)
    return Ranking(History.empty(1), post_id, np.ones_like(post_id), surface=1, at_ms=1)


def _answers_per_s(handle: Any, asked: Ranking, num_replicas: int, seconds: float) -> float:
    """By so many clients that each ask again at once."""
    begin = time.perf_counter()

    def client(_: int) -> int:
        num = 0
        while time.perf_counter() < begin + seconds:
            handle.remote(asked).result()
            num += 1
        return num

    with ThreadPoolExecutor(_CLIENTS * num_replicas) as clients:
        done = sum(clients.map(client, range(_CLIENTS * num_replicas)))
    return done / (time.perf_counter() - begin)


@cache
def _ranker(bundle: Path) -> tuple[Ranker, Ranking]:
    """What a plain process keeps."""
    torch.set_num_threads(1)
    loaded = load(bundle)
    return Ranker(loaded, RankerSettings(context_bytes=0)), _asked(loaded)


def _rankings_per_s(bundle: Path, seconds: float) -> float:
    """Of a plain process that does nothing else."""
    ranker, asked = _ranker(bundle)
    begin, num = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        ranker.rank([asked])
        num += 1
    return num / (time.perf_counter() - begin)

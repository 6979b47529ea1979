"""`python -m tests.bench.bench_tune [--trials N] [--workers N]`: trials of a blend an hour.

A made-up world, a bundle of untrained models (what predictions are plays no part here), 500 visits
with 300 candidates each. A trial is all of it: proposed, its pages made and measured, written to
the journal. Three spaces: weights and multipliers alone; with settings of the field that are
computed once each; with a wavelength that is new in every trial. On a machine that others use the
CPU time of the process is the number to read. With `--workers` trials also run side by side on Ray.
Results go to tests/bench/reports/tune_bench.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs import check, load
from pipelines.data.synthetic import SyntheticConfig, World
from pipelines.feed.discover import FeedConfig
from tests.conftest import prepare_world, write_bundle
from train import bundle as bundles
from train.report import BENCH_REPORTS, add_out, header, write
from train.tuning.blends import Bench, Executor, Here, prepare, run_trials
from train.tuning.settings import BlendSearch
from train.tuning.study import opened

R, C = 500, 300  # visits, candidates of each
WORLD = SyntheticConfig(num_users=1_500, num_authors=200, num_posts=3_000, num_events=60_000)
WEIGHTS: dict[str, Any] = {
    "weights.favorite": {"low": 0.0, "high": 4.0},
    "weights.click": {"low": 0.0, "high": 2.0},
    "weights.not_interested": {"low": -80.0, "high": 0.0},
    "scorers.author_diversity.decay": {"low": 0.1, "high": 1.0},
    "scorers.out_of_network.factor": {"low": 0.25, "high": 1.0},
}
FIELD: dict[str, Any] = {
    "interference.alpha": {"low": 0.0, "high": 1.0},
    "interference.field.dimension_weight": {"low": 0.0, "high": 2.0},
    "interference.field.destructive_gain": {"low": 0.0, "high": 1.0},
    "interference.field.base_scale": {"choices": [0.5, 1.0]},
}
ANEW: dict[str, Any] = {"interference.field.base_scale": {"low": 0.3, "high": 3.0}}
SPACES = {
    "weights and multipliers": WEIGHTS,
    "and the field, computed before": {**WEIGHTS, **FIELD},
    "and the field, computed in each trial": {**WEIGHTS, **FIELD, **ANEW},
}


def world(folder: Path, settings: SyntheticConfig) -> tuple[Path, Path]:
    """Prepared data, and a bundle of untrained models; returns the folders of both."""
    World.make(settings).write(folder / "log")
    data = prepare_world(folder / "log", folder / "data")
    (folder / "feed.yaml").write_text("filters: {age: {max_age_hours: 100000}}\n")
    return data, write_bundle(data, folder)


def config(folder: Path, data: Path, bundle: Path, name: str, space: Mapping[str, Any]) -> Any:
    """A search without pruning: every trial makes all pages."""
    values = {
        "kind": "blend",
        "name": name,
        "out": str(folder / "tune"),
        "space": space,
        "bundle": str(bundle),
        "data": str(data),
        "feed": str(folder / "feed.yaml"),
        "num_requests": R,
        "num_candidates": C,
        "pruner": "none",
        "relevant": "favorite",
        "sampler": {"kind": "tpe", "num_startup": 4},
    }
    return check(values, BlendSearch, place="bench")


def timed(search: BlendSearch, bench: Bench, executor: Executor, trials: int) -> dict[str, float]:
    """What trials take after two that warm up: seconds, and trials an hour at that pace."""
    with opened(search, {}) as study:
        run_trials(study, search.model_copy(update={"num_trials": 2}), executor, bench.default)
        wall, cpu = time.perf_counter(), time.process_time()
        whole = search.model_copy(update={"num_trials": 2 + trials})
        run_trials(study, whole, executor, bench.default)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "trials": trials,
        "cpu_s_per_trial": cpu / trials,
        "trials_per_cpu_hour": 3600 * trials / cpu,
        "s_per_trial": wall / trials,
        "trials_per_hour": 3600 * trials / wall,
    }


def report(trials: int, workers: int, out: Path = BENCH_REPORTS) -> Path:
    """Measure, print, and write the record and its page, to `out` if not the repository's."""
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data, bundle = world(folder, WORLD)
        for at, (name, space) in enumerate(SPACES.items()):
            search = config(folder, data, bundle, f"space-{at}", space)
            feed = load(search.feed, FeedConfig)
            started = time.process_time()
            bench = prepare(search, bundles.load(bundle), feed)
            ready = time.process_time() - started
            sizes = [len(ready.posts) for ready in bench.pages.requests.ready]
            rows[name] = timed(search, bench, Here(bench.pages), trials) | {"ready_cpu_s": ready}
            print(name, rows[name], flush=True)
            if workers > 1 and at == 1:
                beside = search.model_copy(update={"name": "beside", "num_workers": workers})
                rows[f"{name}; {workers} workers"] = _beside(beside, bench, trials)
        results = {"requests": len(sizes), "candidates": float(np.mean(sizes)), "trials": rows}
    origin = header("made up: pipelines.data.synthetic", seeds=[0]) | {"load_before": load_before}
    return write("tune_bench", {"header": origin, **results}, out)


def _beside(search: BlendSearch, bench: Bench, trials: int) -> dict[str, float]:
    """On Ray, where the CPU time of this process says nothing."""
    from train.tuning.cluster import on_cluster

    pages = bench.pages
    with on_cluster(pages.requests, search, search.num_workers, pages.num_chunks) as executor:
        row = timed(search, bench, executor, trials)
    return {name: row[name] for name in ("trials", "s_per_trial", "trials_per_hour")}


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_tune")
    parser.add_argument("--trials", type=int, default=20, help="of each space")
    parser.add_argument("--workers", type=int, default=1, help="more than 1: also on Ray")
    add_out(parser)
    args = parser.parse_args()
    print(f"{report(args.trials, args.workers, args.out)}: written")


if __name__ == "__main__":
    main()

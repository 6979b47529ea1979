"""`python -m tests.bench.bench_train [--data FOLDER]`: how fast the demo's models learn.

First the step alone, in plain torch, for the ranker and the two towers: padded, packed, and
packed under a budget of events, from the same weights and on the same real examples, in turns.
Then Ray Train beside the plain loop (`ray_beside_plain.py`). One torch thread throughout. Results
go to tests/bench/reports/train_bench.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from configs import load
from tests.bench.throughput import matmul_flops_per_s, seconds_per_step, step_flops
from train.learners import make_learner
from train.loop import TrainConfig, Trainer, batches
from train.models.tokens import Tensors
from train.report import BENCH_REPORTS, add_out, header, write
from train.runs import resolve

KINDS = ("ranker", "retrieval")
BUDGET_SHARE = 0.5  # tokens_per_example, of the history's length
FORMS: dict[str, tuple[bool, float | None]] = {
    "padded": (False, None),
    "packed": (True, None),
    "packed, budget": (True, BUDGET_SHARE),
}
WARM_UP = 3  # first steps of each form, which are not counted
COUNTED_BATCHES = 8  # whose operations are counted; packed, they differ a little
MATMUL_SIZE = 1024  # of the square matrices whose product sets the machine's rate


def form_of(config: TrainConfig, form: str) -> TrainConfig:
    """The same run with its batches padded or packed."""
    packed, share = FORMS[form]
    learning = config.learning
    history_len = learning.model.features.history_len
    changed = {
        "model": learning.model.model_copy(update={"packed": packed}),
        "tokens_per_example": None if share is None else max(1, int(share * history_len)),
    }
    return config.model_copy(update={"learning": learning.model_copy(update=changed)})


def start(config: TrainConfig, data: Path) -> Trainer:
    """A trainer whose first weights depend on the seed alone, not on the form."""
    torch.manual_seed(config.seed)
    return Trainer(config, make_learner(config.learning, data), num_steps=1000)


def some_batches(trainer: Trainer, data: Path, num: int) -> list[Tensors]:
    """The first batches of one random order of the training split."""
    size = trainer.config.batch_size
    rows = pq.read_table(data / trainer.config.learning.trained_on, partitioning=None)
    order = np.random.default_rng(trainer.config.seed).permutation(len(rows))
    rows = rows.take(order[: num * size])
    tables = [rows.slice(at * size, size) for at in range(num)]
    return list(batches(trainer.learner, tables, (trainer.config.seed,)))


def measure_forms(config: TrainConfig, data: Path, num_steps: int) -> dict[str, dict[str, float]]:
    """All forms of one model, a step of each and a product of matrices in turn.

    Batches are made beforehand: what is timed is the step alone.

    Returns:
        For each form, medians over the steps.
    """
    total = num_steps + WARM_UP
    trainers = {form: start(form_of(config, form), data) for form in FORMS}
    streams = {form: some_batches(trainer, data, total) for form, trainer in trainers.items()}
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    rates = []
    for step in range(total):
        rates.append(matmul_flops_per_s(torch.device("cpu"), torch.float32, MATMUL_SIZE, num=1))
        for form, trainer in trainers.items():
            seconds[form] += seconds_per_step(trainer, streams[form][step : step + 1])
    rate = statistics.median(rates)
    return {
        form: _summary(trainer, streams[form], seconds[form][WARM_UP:], rate)
        for form, trainer in trainers.items()
    }


def _summary(
    trainer: Trainer, stream: list[Tensors], seconds: list[float], rate: float
) -> dict[str, float]:
    """What one form's steps took, against `rate`, the operations per second of a product."""
    size, step_s = trainer.config.batch_size, statistics.median(seconds)
    flops = statistics.mean(step_flops(trainer, batch) for batch in stream[:COUNTED_BATCHES])
    events = [(batch["history_post_hashes"][..., 0] != 0).sum().item() for batch in stream]
    return {
        "step_ms": 1000 * step_s,
        "fastest_step_ms": 1000 * min(seconds),
        "examples_per_s": size / step_s,
        "history_events_per_example": statistics.mean(events) / size,
        "mflop_per_example": flops / size / 1e6,
        "gflop_per_s": flops / step_s / 1e9,
        "matmul_gflop_per_s": rate / 1e9,
        "share_of_matmul_rate": flops / step_s / rate,
    }


def report(
    data: Path,
    configs: dict[str, TrainConfig],
    sizes: dict[str, int],
    with_ray: bool,
    folder: Path = BENCH_REPORTS,
) -> Path:
    """Measure everything and write the record and its page.

    Args:
        data: prepared data.
        configs: the model of each kind.
        sizes: "steps" of each form; "ray_steps" of each "rounds" on Ray and without.
        with_ray: also compare with Ray Train, on the cluster that is up or starts now.
        folder: of the reports; None = the repository's.
    """
    load_before = os.getloadavg()[0]
    results: dict[str, Any] = {
        kind: measure_forms(resolve(config, data), data, sizes["steps"])
        for kind, config in configs.items()
    }
    if with_ray:
        from tests.bench.ray_beside_plain import compare

        results["ray_train"] = {
            kind: compare(config, data, sizes["rounds"], sizes["ray_steps"])
            for kind, config in configs.items()
        }
    _show(results)
    malloc = sorted(name for name in os.environ if name.startswith("MALLOC_"))
    about = {
        "load_before": load_before,  # 1-minute averages: processes that run or wait
        "load_after": os.getloadavg()[0],  # includes this one's
        "malloc": " ".join(f"{name}={os.environ[name]}" for name in malloc) or "as the system's",
        "torch_threads": torch.get_num_threads(),
        "ray_worker_niceness": os.environ.get("RAY_worker_niceness", "Ray's default"),  # noqa: SIM112
        "matmul_size": MATMUL_SIZE,
        **sizes,
    }
    fingerprint = json.loads((data / "manifest.json").read_text())["fingerprint"]
    seeds = sorted({config.seed for config in configs.values()})
    return write("train_bench", {"header": header(fingerprint, seeds) | about, **results}, folder)


def _show(results: dict[str, Any]) -> None:
    """Print a table for each part of the results."""
    for part, rows in results.items():
        table = Table(part, *rows)
        for name in next(iter(rows.values())):
            cells = (row[name] for row in rows.values())
            table.add_row(name, *(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells))
        Console().print(table)


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_train")
    parser.add_argument("--data", type=Path, default=Path("artifacts/data/kuairand"))
    add_out(parser)
    parser.add_argument("--steps", type=int, default=30, help="of each form")
    parser.add_argument("--rounds", type=int, default=3, help="on Ray, and as many without")
    parser.add_argument("--ray-steps", type=int, default=80, help="of each round")
    parser.add_argument("--without-ray", action="store_true", help="only the forms of batches")
    args = parser.parse_args()
    torch.set_num_threads(1)
    configs = {kind: load(Path(f"configs/{kind}/tiny.yaml"), TrainConfig) for kind in KINDS}
    sizes = {name: getattr(args, name) for name in ("steps", "rounds", "ray_steps")}
    page = report(args.data.resolve(), configs, sizes, not args.without_ray, args.out)
    print(f"{page}: written")


if __name__ == "__main__":
    main()

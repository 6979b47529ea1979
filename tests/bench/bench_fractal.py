"""`python -m tests.bench.bench_fractal [--rounds N]`: how fast the interference field is.

One viewer's field at 500 candidates of 64 numbers, a history of 100 posts, 4 scales, 8 waves: by
the plain complex sum in NumPy (the tests' oracle), the same sum in torch, factorised in float64
and float32, split into parts, and by random Fourier features. All ways take turns within each
round, on one core; ratios are of the medians over the same rounds. On a machine that others use,
`cpu ms` (time of this thread alone) is the number to read. Results go to
tests/bench/reports/fractal_bench.json.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tests.bench.bench_recent import Timer
from tests.train.models.field_oracle import by_scale
from train.models.fractal.config import FieldConfig
from train.models.fractal.field import Field, fit
from train.models.fractal.fourier import fourier_basis, fourier_error, fourier_state
from train.report import BENCH_REPORTS, add_out, header, write

C, N, D = 500, 100, 64  # candidates, posts of the history, width
CONFIG = FieldConfig(num_scales=4, num_waves=8)
DRAWS = 1024
WARM_UP = 3
LENGTHS = (10, 100, 1_000, 5_000)  # of the history


def vectors(seed: int, num: int) -> Tensor:
    """Unit rows around eight centres. float64 [num, D]."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(8, D))
    rows = centres[random.integers(8, size=num)] + random.normal(size=(num, D))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def direct_in_torch(field: Field, history: Tensor, candidates: Tensor) -> Tensor:
    """The plain complex sum, term by term: [C, d] -> [C, S]."""
    apart = candidates[:, None] - history
    along, squares = apart @ field.waves[0].T, apart.square().sum(2)
    columns = []
    for scale in field.scales[0]:
        waves = torch.exp(2j * torch.pi * along / scale).mean(2)
        fade = torch.exp(-squares / (2 * scale**2))
        columns.append(2 * (fade * waves).real.mean(1))
    return torch.stack(columns, 1)


def ways(num_candidates: int, num_history: int) -> dict[str, Callable[[], Any]]:
    """The field at the same candidates, in every way."""
    history, candidates = vectors(1, num_history), vectors(2, num_candidates)
    field = fit(history[None], config=CONFIG)
    short = fit(history[None].float(), config=CONFIG)
    plain = (history.numpy(), np.ones(num_history), candidates.numpy())
    waves, scales = field.waves[0].numpy(), field.scales[0].numpy()
    at, at_short = candidates[None], candidates[None].float()
    basis = fourier_basis(field.waves[0], field.scales[0, :2], DRAWS)
    state, known = fourier_state(basis, short), basis.features(at_short[0])
    one, weight = candidates[:1], torch.ones(1)
    return {
        "NumPy, every term": lambda: by_scale(*plain, waves, scales),
        "torch, every term": lambda: direct_in_torch(field, history, candidates),
        "factorised float64": lambda: field.score(at).by_scale[0],
        "factorised float32": lambda: short.score(at_short).by_scale[0],
        "parts float32": lambda: short.parts(at_short),
        "Fourier, 2 scales": lambda: state.score(basis.features(at_short[0])),
        "Fourier, 2 scales, features known": lambda: state.score(known),
        "Fourier, one event": lambda: state.add(basis, one, weight),
        "fit float32": lambda: fit(history[None].float(), config=CONFIG),
    }


def timed(rounds: int) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Times of each way, taking turns, and the largest differences from the plain sum."""
    every = ways(C, N)
    timers = {name: Timer() for name in every}
    found = {}
    for _ in range(rounds + WARM_UP):
        for name, way in every.items():
            with timers[name]:
                found[name] = way()
    plain = torch.from_numpy(found["NumPy, every term"])
    names = ("torch, every term", "factorised float64", "factorised float32")
    errors = {name: float((found[name].double() - plain).abs().max()) for name in names}
    rows = {name: timer.percentiles(WARM_UP) for name, timer in timers.items()}
    base = rows["NumPy, every term"]["p50_cpu_ms"]
    for row in rows.values():
        row["times_faster"] = base / row["p50_cpu_ms"]
    return rows, errors


def over_lengths(rounds: int) -> dict[str, dict[str, float]]:
    """CPU time over the length of the history, taking turns. Median ms."""
    rows = {}
    names = ("factorised float32", "Fourier, 2 scales", "Fourier, 2 scales, features known")
    for num in LENGTHS:
        every = ways(C, num)
        timers = {name: Timer() for name in names}
        for _ in range(rounds + WARM_UP):
            for name in names:
                with timers[name]:
                    every[name]()
        times = {name: t.percentiles(WARM_UP)["p50_cpu_ms"] for name, t in timers.items()}
        rows[f"{num} posts"] = times
    return rows


def memory(num_candidates: int = 2_000, num_history: int = 500) -> dict[str, dict[str, float]]:
    """What each way takes on top, at its peak, beside one float64 array [C, n]."""
    array = 8 * num_candidates * num_history
    every = ways(num_candidates, num_history)
    names = ("NumPy, every term", "torch, every term", "factorised float64", "factorised float32")
    rows = {}
    for name in names:
        every[name]()
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed is taken again unseen
        Path("/proc/self/clear_refs").write_text("5")  # forget this process's peak
        before = _status("VmRSS")
        every[name]()
        taken = _status("VmHWM") - before
        rows[name] = {"peak_mib": taken / 2**20, "arrays_of_candidates_x_posts": taken / array}
    return rows


def fourier_errors() -> dict[str, dict[str, float]]:
    """Errors of random Fourier features against the exact field, per scale, over 8 viewers."""
    history = torch.stack([vectors(10 + seed, N) for seed in range(8)])
    candidates = vectors(2, C)
    field = fit(history, config=CONFIG.model_copy(update={"base_scale": 2.5}))
    exact = field.score(candidates.expand(8, -1, -1)).by_scale
    rows = {}
    for draws in (DRAWS, 4 * DRAWS):
        basis = fourier_basis(field.waves[0], field.scales[0], draws)
        error = fourier_error(fourier_state(basis, field).score(basis.features(candidates)), exact)
        for scale in range(CONFIG.num_scales):
            rows[f"{draws} draws, scale {scale + 1}"] = {
                "correlation": float(error.correlation[scale]),
                "rms_error": float(error.rms[scale]),
                "spread_of_field": float(error.spread[scale]),
            }
    return rows


def report(rounds: int, folder: Path = BENCH_REPORTS) -> Path:
    """Measure, print, and write the record and its page, to `folder` if not the repository's."""
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    rows, errors = timed(rounds)
    results = {
        "candidates": C,
        "history": N,
        "width": D,
        "scales": CONFIG.num_scales,
        "waves": CONFIG.num_waves,
        "fourier_draws": DRAWS,
        "largest_difference_from_plain_sum": errors,
        "times": rows,
        "median_cpu_ms_over_length_of_history": over_lengths(max(3, rounds // 4)),
        "peak_memory_at_2000_candidates_500_posts": memory(),
        "fourier_features_beside_exact": fourier_errors(),
    }
    table = Table("way", *rows["NumPy, every term"], box=SIMPLE)
    for name, row in rows.items():
        table.add_row(name, *(f"{value:,.4g}" for value in row.values()))
    Console().print(table)
    origin = header("made up: tests.bench.bench_fractal.vectors", seeds=[0])
    return write(
        "fractal_bench", {"header": origin | {"load_before": load_before}, **results}, folder
    )


def _status(field: str) -> int:
    """A size in /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_fractal")
    parser.add_argument("--rounds", type=int, default=60)
    add_out(parser)
    args = parser.parse_args()
    print(f"{report(args.rounds, args.out)}: written")


if __name__ == "__main__":
    main()

"""`python -m tests.bench.bench_data [num_rows …]`: the data job beside Polars in one process.

Both read the same generated log, check it, drop duplicates, split it, build histories, examples
and profiles, and write and hash the same Parquet files. Ray is up and has run a small job before;
Polars has been imported. Memory is resident memory, sampled: of this process and all Ray workers
together, and of the Polars process. Results go to tests/bench/reports/data_bench.json.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.data.job import DataConfig, prepare
from pipelines.data.spread import over_ray
from pipelines.runtime import connect
from train.report import BENCH_REPORTS, write

from .data_by_polars import generate, split_settings, with_polars

SIZES = {1_000_000: 3, 10_000_000: 3}  # rows -> runs


def with_rayfeed(folder: Path, out: Path) -> str:
    """Our job on the running cluster. Returns the fingerprint."""
    reader = {
        "name": "logs",
        "events": str(folder / "events"),
        "posts": str(folder / "posts.parquet"),
    }
    config = DataConfig(name="bench", out=str(out), reader=reader, split=split_settings())
    return str(prepare(config, over_ray)["fingerprint"])


@dataclasses.dataclass
class Run:
    """One run: wall clock, and the most resident memory at any sample."""

    wall_s: float
    peak_mib: float


def measure(job: Callable[[Path, Path], str], folder: Path, pids: Callable[[], list[int]]) -> Run:
    """Run `job` into a fresh folder, watching the resident memory of `pids()`."""
    with tempfile.TemporaryDirectory() as scratch, _watch(pids) as peak:
        started = time.perf_counter()
        job(folder, Path(scratch) / "out")
        wall_s = time.perf_counter() - started
    return Run(wall_s, peak[0])


@contextmanager
def _watch(pids: Callable[[], list[int]]) -> Iterator[list[float]]:
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], sum(map(_resident_mib, pids())))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _ray_pids() -> list[int]:
    """Our process and the workers of the cluster it started."""
    return [os.getpid(), *(pid for pid in _below(os.getpid()) if _is_worker(pid))]


def _below(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for child in map(int, children) for p in (child, *_below(child))]


def _is_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


def _in_child(pipe: Connection, folder: Path) -> None:
    run = measure(with_polars, folder, lambda: [os.getpid()])
    pipe.send(run)


def polars_run(folder: Path) -> Run:
    """One run of Polars in a process of its own, so that its memory starts from nothing."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_in_child, args=(theirs, folder))
    process.start()
    run: Run = ours.recv()
    process.join()
    return run


def main(sizes: dict[int, int]) -> None:
    """Measure all sizes, print a table and write the report."""
    load, results = os.getloadavg()[0], []
    connect(num_cpus=os.cpu_count())
    with tempfile.TemporaryDirectory(prefix="bench-data-") as scratch:
        warm = Path(scratch) / "warm"
        generate(warm, 50_000)
        measure(with_rayfeed, warm, _ray_pids)
        for num_rows, num_runs in sizes.items():
            folder = Path(scratch) / str(num_rows)
            generate(folder, num_rows)
            runs = [
                (measure(with_rayfeed, folder, _ray_pids), polars_run(folder))
                for _ in range(num_runs)
            ]
            shutil.rmtree(folder)
            results.append(_summary(num_rows, runs))
    report = {
        "date": dt.date.today().isoformat(),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "load_before": round(load, 1),  # others at work: processes waiting or running
        },
        "versions": {name: version(name) for name in ("ray", "polars", "pyarrow", "numpy")},
        "results": results,
    }
    write("data_bench", report, BENCH_REPORTS)
    _print(results)


def _summary(num_rows: int, runs: list[tuple[Run, Run]]) -> dict[str, Any]:
    ours = statistics.median(run.wall_s for run, _ in runs)
    polars = statistics.median(run.wall_s for _, run in runs)
    return {
        "rows": num_rows,
        "runs": len(runs),
        "rayfeed_s": round(ours, 2),
        "polars_s": round(polars, 2),
        "ratio": round(ours / polars, 2),
        "rayfeed_rows_per_s": round(num_rows / ours),
        "polars_rows_per_s": round(num_rows / polars),
        "rayfeed_peak_mib": round(max(run.peak_mib for run, _ in runs)),
        "polars_peak_mib": round(max(run.peak_mib for _, run in runs)),
        "all_runs_s": [[round(a.wall_s, 2), round(b.wall_s, 2)] for a, b in runs],
    }


def _print(results: list[dict[str, Any]]) -> None:
    table = Table(
        "rows",
        "rayfeed s",
        "Polars s",
        "ratio",
        "rayfeed rows/s",
        "Polars rows/s",
        "rayfeed MiB",
        "Polars MiB",
    )
    for r in results:
        table.add_row(
            f"{r['rows']:,}",
            str(r["rayfeed_s"]),
            str(r["polars_s"]),
            str(r["ratio"]),
            f"{r['rayfeed_rows_per_s']:,}",
            f"{r['polars_rows_per_s']:,}",
            f"{r['rayfeed_peak_mib']:,}",
            f"{r['polars_peak_mib']:,}",
        )
    Console().print(table)


if __name__ == "__main__":
    wanted = {int(n): SIZES.get(int(n), 3) for n in sys.argv[1:]}
    main(wanted or SIZES)

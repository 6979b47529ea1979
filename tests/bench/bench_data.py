"""`python -m tests.bench.bench_data [num_rows …]`: the data job beside Polars in one process.

Both read the same generated log, check it, drop duplicates, split it, build histories, examples
and profiles, and write and hash the same Parquet files. Ray is up and has run a small job before;
Polars has been imported. Memory is resident memory, sampled: of this process and all Ray workers
together, and of the Polars process. Results go to train/reports/data_bench.json.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
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

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipelines.data.check import Checked
from pipelines.data.examples import PROFILES, ExampleSettings, examples, profiles
from pipelines.data.gather import to_log, unique, write
from pipelines.data.job import DataConfig, prepare
from pipelines.data.scatter import pack
from pipelines.data.split import SPLITS, SplitSettings
from pipelines.data.spread import over_ray
from pipelines.runtime import connect
from pipelines.schema import ACTIONS, EVENTS, EXAMPLES, HISTORIES, POSTS

REPORT = Path("train/reports/data_bench.json")
SIZES = {1_000_000: 3, 10_000_000: 3}  # rows -> runs
FILE_ROWS = 1_000_000
NUM_POSTS = 100_000
START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
RATES = {"click": 0.4, "favorite": 0.02, "reply": 0.003, "share": 0.002, "not_interested": 0.001}


def generate(folder: Path, num_rows: int) -> None:
    """Write a log of `num_rows` in the contract: visits of 8 posts on average over 14 days.

    One row in 100 is there twice. The same `num_rows` give the same files.
    """
    rng = np.random.default_rng(num_rows)
    (folder / "events").mkdir(parents=True)
    num_visits = num_rows // 8
    user = 1 + (rng.pareto(1.5, num_visits) * num_rows / 100).astype(np.int64) % (num_rows // 20)
    begin = np.sort(START_MS + rng.integers(0, 14 * DAY_MS, num_visits))
    for at, low in enumerate(range(0, num_rows, FILE_ROWS)):
        n = min(FILE_ROWS, num_rows - low)
        visit = (low + np.arange(n)) // 8
        place = (low + np.arange(n)) % 8
        post = 1 + (rng.pareto(1.2, n) * 500).astype(np.int64) % NUM_POSTS
        frame = pl.DataFrame(
            {
                "event_id": pl.Series(low + np.arange(n)).cast(pl.String),
                "user_id": user[np.minimum(visit, num_visits - 1)],
                "post_id": post,
                "shown_at_ms": begin[np.minimum(visit, num_visits - 1)] + 9_000 * place,
                "surface": np.full(n, 1, np.int16),
                "position": place.astype(np.int16),
                "dwell_s": rng.exponential(8, n).astype(np.float32),
                **{name: rng.random(n) < rate for name, rate in RATES.items()},
            }
        )
        twice = frame[:-1].gather_every(100)
        frame = pl.concat([frame[: n - len(twice)], twice])
        pq.write_table(
            frame.to_arrow().cast(_plain(frame)),
            folder / f"events/{at:04d}.parquet",
            row_group_size=FILE_ROWS // 2,
        )
    posts = pl.DataFrame({"post_id": np.arange(1, NUM_POSTS + 1)})
    posts = posts.with_columns(author_id=pl.col("post_id") % 5_000 + 1)
    posts.write_parquet(folder / "posts.parquet")


def with_polars(folder: Path, out: Path) -> str:
    """The same job in one process, the log held as one frame. Returns a digest of the tables."""
    events = pl.read_parquet(folder / "events" / "*.parquet")
    posts = pl.read_parquet(folder / "posts.parquet").sort("post_id")
    _check(events, posts)
    table = _whole(events)
    del events
    rows = np.arange(len(table))
    packed = pl.DataFrame(pack(Checked(table, rows, []), 0, _split(), ACTIONS))
    del table
    kept = unique(packed)
    del packed
    if kept["event_id"].is_duplicated().any():
        raise ValueError("an event_id names two rows")
    authors = posts["post_id"].to_numpy(), posts["author_id"].to_numpy()
    log = to_log(kept, HISTORIES.arrow.empty_table(), authors)
    del kept
    settings, digests = ExampleSettings(), []
    for split in SPLITS:
        (out / f"examples/split={split}").mkdir(parents=True)
        path = f"examples/split={split}/part-00000.parquet"
        digests.append(write(examples(log, split, settings), EXAMPLES, str(out), path)[1])
    digests.append(write(profiles(log, settings), PROFILES, str(out), "profiles.parquet")[1])
    full = posts.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in pl.Schema(POSTS.arrow).items()
        if name not in posts.columns
    )
    columns = full.select(POSTS.arrow.names).to_arrow().cast(POSTS.arrow)
    digests.append(write([columns], POSTS.arrow, str(out), "posts.parquet")[1])
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def with_rayfeed(folder: Path, out: Path) -> str:
    """Our job on the running cluster. Returns the fingerprint."""
    reader = {
        "name": "logs",
        "events": str(folder / "events"),
        "posts": str(folder / "posts.parquet"),
    }
    config = DataConfig(name="bench", out=str(out), reader=reader, split=_split())
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
    connect(num_cpus=os.cpu_count())
    results = []
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
            print(results[-1])
    report = {
        "date": dt.date.today().isoformat(),
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine()},
        "versions": {name: version(name) for name in ("ray", "polars", "pyarrow", "numpy")},
        "results": results,
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
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


def _split() -> SplitSettings:
    def instant(day: int) -> dt.datetime:
        return dt.datetime.fromtimestamp((START_MS + day * DAY_MS) / 1000, dt.UTC)

    return SplitSettings(validate_from=instant(12), test_from=instant(13))


def _check(events: pl.DataFrame, posts: pl.DataFrame) -> None:
    """The rules of the contract as Polars expressions."""
    ids, times = pl.col("user_id", "post_id"), pl.col("shown_at_ms")
    now_ms = int(time.time() * 1000)
    bad = events.select(
        (pl.col("user_id").is_null() | pl.col("post_id").is_null() | times.is_null()).any(),
        ids.min().name.suffix("_min") < 1,
        late=times.max() > now_ms,
        early=times.min() < 0,
        surface=~pl.col("surface").is_between(0, 15).all(),
        position=pl.col("position").min() < 0,
        dwell=~(pl.col("dwell_s").is_finite().all() & (pl.col("dwell_s").min() >= 0)),
    )
    if any(bad.row(0)) or not events["post_id"].is_in(posts["post_id"].implode()).all():
        raise ValueError(f"bad rows: {bad}")


def _whole(events: pl.DataFrame) -> pa.Table:
    """All columns of the contract; those not given are null."""
    given = events.to_arrow()
    arrays = [
        given[field.name].cast(field.type)
        if field.name in given.column_names
        else pa.nulls(len(given), field.type)
        for field in EVENTS.arrow
    ]
    return pa.table(arrays, schema=EVENTS.arrow)


def _plain(frame: pl.DataFrame) -> pa.Schema:
    fields = {f.name: f.type for f in EVENTS.arrow}
    return pa.schema([(name, fields[name]) for name in frame.columns])


if __name__ == "__main__":
    wanted = {int(n): SIZES.get(int(n), 3) for n in sys.argv[1:]}
    main(wanted or SIZES)

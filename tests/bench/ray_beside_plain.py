"""The same training steps on Ray Train and in the plain loop, in turns.

Both take the same batches from the same weights, with the same loop around the step
(`train.loop.train_epoch`), which makes batches on a thread ahead of it. On Ray, one worker gets
its rows from Ray Data; the plain loop has the same tables in memory. So what differs is what Ray
costs. That the work is the same shows in the losses.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from pipelines.runtime import connect
from train.learners import make_learner
from train.loop import Progress, TrainConfig, Trainer, batches, train_epoch
from train.runs import resolve
from train.worker import _read, _run, tables

WARM_UP = 10  # first steps of every round, which are not counted
VALIDATION_ROWS = 256  # of the split that a run on Ray ends with; not timed

Note = tuple[float, float]  # when a step was done, seconds of the machine's clock; its loss


@ray.remote(num_cpus=0)
class Clock:
    """Stands in for a run's progress board and keeps when each note of it arrived."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def note(self, steps: int, loss: float) -> None:
        """A step was made."""
        self.notes.append((time.monotonic(), loss))

    def all(self) -> list[Note]:
        """Every note so far, in order."""
        return self.notes


@dataclass(frozen=True)
class Round:
    """One run of a loop.

    Attributes:
        startup_s: from the call to the end of the first step.
        step_s: from one step's end to the next one's, waiting for data included; warm-up is
            left out.
        losses: of all steps.
    """

    startup_s: float
    step_s: list[float]
    losses: list[float]

    @classmethod
    def of(cls, called: float, notes: list[Note]) -> Round:
        """From when the loop was called, and what it noted of its steps."""
        at, losses = zip(*notes, strict=True)
        step_s = [later - earlier for earlier, later in itertools.pairwise(at)]
        return cls(at[0] - called, step_s[WARM_UP:], list(losses))


def on_ray(config: TrainConfig, data: Path, num_steps: int) -> Round:
    """One worker of Ray Train, as `python -m train` starts it."""
    clock = Clock.remote()  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as out:
        called = time.monotonic()
        _run(config.model_copy(update={"out": out}), data, num_steps, clock)
        notes = ray.get(clock.all.remote())
    ray.kill(clock)
    return Round.of(called, notes)


def plain(config: TrainConfig, data: Path, rows: list[pa.Table]) -> Round:
    """The loop in this process, over tables in memory, a step each."""
    called, notes = time.monotonic(), []
    torch.manual_seed(config.seed)
    trainer = Trainer(config, make_learner(config.learning, data), len(rows))
    stream = batches(trainer.learner, rows, (config.seed, 0, 0))  # as epoch 0 of worker 0

    def after_step(parts: dict[str, float]) -> None:
        notes.append((time.monotonic(), parts["loss"]))

    train_epoch(trainer, stream, Progress(), len(rows), after_step)
    return Round.of(called, notes)


def compare(config: TrainConfig, data: Path, num_rounds: int, num_steps: int) -> dict[str, Any]:
    """Both loops, `num_rounds` times `num_steps` steps each; who goes first changes.

    Returns:
        Step times are medians and means over the steps of all rounds, overheads are Ray's over
        the plain loop's; start-up is the median of the rounds, Ray's cluster being up.

    Raises:
        ValueError: too few steps to have any after the warm-up.
    """
    if num_steps < WARM_UP + 2:
        raise ValueError(f"{num_steps} steps a round: at least {WARM_UP + 2} are needed")
    connect()
    rounds: dict[str, list[Round]] = {"plain": [], "ray": []}
    with short_validation(data) as view:
        config = resolve(config, view).model_copy(update={"num_epochs": 1})
        stored = _read(view / config.learning.trained_on).iterator()
        rows = list(itertools.islice(tables(stored, config, config.seed), num_steps))
        loops = {
            "plain": lambda: plain(config, view, rows),
            "ray": lambda: on_ray(config, view, num_steps),
        }
        for turn in range(num_rounds):
            for name in list(loops)[:: -1 if turn % 2 else 1]:
                rounds[name].append(loops[name]())
    return _summary(rounds["plain"], rounds["ray"])


def _summary(plain_rounds: list[Round], ray_rounds: list[Round]) -> dict[str, Any]:
    """One row of the report."""
    result: dict[str, Any] = {}
    for kind, of in {"median": statistics.median, "mean": statistics.mean}.items():
        ours, theirs = (
            of(list(itertools.chain.from_iterable(r.step_s for r in rounds)))
            for rounds in (ray_rounds, plain_rounds)
        )
        result[f"plain_{kind}_step_ms"] = 1000 * theirs
        result[f"ray_{kind}_step_ms"] = 1000 * ours
        result[f"overhead_of_{kind}_percent"] = 100 * (ours / theirs - 1)
    pairs = list(zip(plain_rounds, ray_rounds, strict=True))
    return result | {
        "overhead_of_each_round_percent": [
            100 * (statistics.median(r.step_s) / statistics.median(p.step_s) - 1) for p, r in pairs
        ],
        "plain_startup_s": statistics.median(p.startup_s for p in plain_rounds),
        "ray_startup_s": statistics.median(r.startup_s for r in ray_rounds),
        "largest_difference_of_losses": max(
            abs(a - b) for p, r in pairs for a, b in zip(p.losses, r.losses, strict=True)
        ),
    }


@contextmanager
def short_validation(data: Path) -> Iterator[Path]:
    """The same prepared data with few rows to validate on, which every run on Ray ends with."""
    with tempfile.TemporaryDirectory() as folder:
        view, split = Path(folder), Path("examples") / "split=validate"
        (view / split).mkdir(parents=True)
        for part in (*data.iterdir(), *(data / "examples").iterdir()):
            where = view / part.relative_to(data)
            if not where.exists():
                where.symlink_to(part)
        rows = pq.read_table(data / split, partitioning=None).slice(0, VALIDATION_ROWS)
        pq.write_table(rows, view / split / "part-00000.parquet")
        yield view

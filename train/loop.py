"""The training loop in plain torch: settings, one step, one epoch, one evaluation.

Ray is around it (`train/worker.py`), not in it: on one worker a run is a pure
function of its settings and data, also when it was killed and resumed half-way.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from configs import Config
from train.learners import Learner, Learning, RankerLearning
from train.models.tokens import Tensors


class OptimConfig(Config):
    """AdamW: linear warm-up, then a cosine down to a twentieth of the peak."""

    lr: PositiveFloat = 4e-3  # peak, of the matrices
    table_lr: PositiveFloat = 1e-2  # peak, of the embedding tables
    weight_decay: NonNegativeFloat = 0.01  # of the matrices; tables are not decayed
    warmup_steps: NonNegativeInt = 100
    grad_clip: PositiveFloat = 1.0  # largest global norm of a step's gradient


class TrainConfig(Config):
    """One training run; one YAML file in configs/ranker/ or configs/retrieval/."""

    name: str  # artefacts go to <out>/<name>
    data: str = "artifacts/data/kuairand"  # written by python -m pipelines.data
    out: str = "artifacts/runs"
    learning: Learning = Field(default=RankerLearning(), discriminator="kind")
    optim: OptimConfig = OptimConfig()
    batch_size: PositiveInt = 256  # examples per worker and step
    num_epochs: PositiveInt = 2
    seed: int = 0
    shuffle_rows: PositiveInt = 32_768  # examples among which each batch is drawn
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16 needs a GPU to pay
    num_workers: PositiveInt = 1
    use_gpu: bool = False  # one GPU per worker, nccl; otherwise CPU workers, gloo
    cpus_per_worker: PositiveFloat = 1.0  # reserved; leave some for reading data
    # Torch threads. More than one wait for each other at every operation, which where anything
    # else runs made a step five times slower (train/LOG.md).
    threads_per_worker: PositiveInt = 1
    placement: Literal["PACK", "SPREAD"] = "PACK"  # workers together, or one per node
    checkpoint_every_steps: PositiveInt = 500
    max_failures: NonNegativeInt = 3  # lost workers a run survives


@dataclass
class Progress:
    """Where a run stands; with the weights, all that resuming needs."""

    epoch: int = 0
    step: int = 0  # within the epoch
    total_steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # one entry per epoch


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW with the tables in a group of their own."""
    tables = [p for name, p in model.named_parameters() if "tables." in name]
    matrices = [p for name, p in model.named_parameters() if "tables." not in name]
    groups = [
        {"params": tables, "lr": config.table_lr, "weight_decay": 0.0},
        {"params": matrices, "lr": config.lr, "weight_decay": config.weight_decay},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def lr_scale(step: int, num_steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate at `step` of `num_steps`."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / max(num_steps, 1), 1.0)))
    return warm * (0.05 + 0.95 * cosine)


class Trainer:
    """Model, optimiser and their one step."""

    def __init__(self, config: TrainConfig, learner: Learner, num_steps: int) -> None:
        self.config, self.learner, self.num_steps = config, learner, num_steps
        self.model: nn.Module = learner.model  # may be wrapped by what synchronises gradients
        self.optimizer = make_optimizer(learner.model, config.optim)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.device = torch.device("cpu")

    def place(self, wrapped: nn.Module, device: torch.device) -> None:
        """Train through `wrapped` on `device`; call before the first step."""
        self.model, self.device = wrapped, device

    def step(self, batch: Tensors, total_steps: int) -> dict[str, float]:
        """One update.

        Args:
            batch: as the learner gives it, on any device.
            total_steps: updates made so far, which sets the learning rate.

        Returns:
            The learner's scalars, before the update.
        """
        scale = lr_scale(total_steps, self.num_steps, self.config.optim.warmup_steps)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * scale
        parts = self._loss(batch)
        self.optimizer.zero_grad()
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(self.learner.model.parameters(), self.config.optim.grad_clip)
        self.optimizer.step()
        return {name: part.item() for name, part in parts.items()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Tensors]) -> dict[str, float]:
        """Sums over held-out batches: each scalar times its weight, and the weight."""
        self.learner.model.eval()
        totals: dict[str, float] = {}
        for batch in batches:
            parts = {name: part.item() for name, part in self._loss(batch).items()}
            for name, value in parts.items():
                share = 1.0 if name == "weight" else parts["weight"]
                totals[name] = totals.get(name, 0.0) + value * share
        self.learner.model.train()
        return totals

    def _loss(self, batch: Tensors) -> dict[str, torch.Tensor]:
        batch = {name: t.to(self.device, non_blocking=True) for name, t in batch.items()}
        enabled = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            return self.learner.loss(self.model, batch)


def prefetch(items: Iterable[Tensors], depth: int = 4) -> Iterator[Tensors]:
    """Make items on a thread while earlier ones are used; same items, same order."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    end, stop = object(), threading.Event()

    def fill() -> None:
        try:
            for item in items:
                while not stop.is_set():
                    try:
                        ready.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
            ready.put(end)
        except BaseException as error:  # handed to the consumer, who raises it
            ready.put(error)

    threading.Thread(target=fill, daemon=True).start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()


def batches(
    learner: Learner, tables: Iterable[pa.Table], seeds: tuple[int, ...], skip: int = 0
) -> Iterator[Tensors]:
    """Tables of examples -> batches from number `skip` on; batch i depends on `seeds` and i."""
    for index, table in enumerate(tables):
        if index >= skip:
            yield learner.batch(table, np.random.default_rng((*seeds, index)))


def train_epoch(
    trainer: Trainer,
    stream: Iterator[Tensors],
    progress: Progress,
    num_steps: int,
    after_step: Callable[[dict[str, float]], None],
) -> None:
    """Steps of the current epoch from where `progress` stands to its end."""
    for batch in itertools.islice(prefetch(stream), num_steps - progress.step):
        parts = trainer.step(batch, progress.total_steps)
        progress.step += 1
        progress.total_steps += 1
        after_step(parts)
    if progress.step < num_steps:
        raise RuntimeError(f"epoch {progress.epoch}: data ended at {progress.step}/{num_steps}")

"""The training loop in plain torch: settings, one step, one epoch, one evaluation.

Ray is around it (`train/worker.py`), not in it: on one worker a run is a pure
function of its settings and data, also when it was killed and resumed half-way.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import torch
import torch.distributed
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from configs import Config
from train.learners import Learner, Learning, RankerLearning
from train.models.sharded import Shards, shard_tables
from train.models.tokens import Tensors
from train.optim import Average, OptimConfig, lr_scale, make_optimizer

T = TypeVar("T")
Totals = dict[str, tuple[float, float]]  # name -> sum and weight, as train/learners/measures.py


class TrainConfig(Config):
    """One training run; one YAML file in configs/ranker/ or configs/retrieval/."""

    name: str  # artefacts go to <out>/<name>
    data: str = "artifacts/data/kuairand"  # written by python -m pipelines.data
    out: str = "artifacts/runs"
    learning: Learning = Field(default=RankerLearning(), discriminator="kind")
    optim: OptimConfig = OptimConfig()
    batch_size: PositiveInt = 256  # examples per worker and forward pass
    accumulate: PositiveInt = 1  # forward passes per step; see `Trainer.step`
    num_epochs: PositiveInt = 2
    max_steps: PositiveInt | None = None  # the run ends here, validated, if its epochs do not first
    validate_every_steps: PositiveInt | None = None  # besides the end of every epoch
    patience: PositiveInt | None = None  # validations in a row without a new best, then stop
    seed: int = 0
    shuffle_rows: PositiveInt = 32_768  # examples among which each batch is drawn
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16 needs a GPU to pay
    num_workers: PositiveInt = 1
    # Hash tables and their optimiser's state: all on every worker, or a share of the rows on each.
    table_placement: Literal["replicated", "sharded"] = "replicated"
    use_gpu: bool = False  # one GPU per worker, nccl; otherwise CPU workers, gloo
    cpus_per_worker: PositiveFloat = 1.0  # reserved; leave some for reading data
    # Torch threads. More than one wait for each other at every operation, which where anything
    # else runs made a step five times slower (train/LOG.md).
    threads_per_worker: PositiveInt = 1
    placement: Literal["PACK", "SPREAD"] = "PACK"  # workers together, or one per node
    checkpoint_every_steps: PositiveInt = 500
    max_failures: NonNegativeInt = 3  # lost workers a run survives

    def num_steps(self, steps_per_epoch: int) -> int:
        """Of the whole run."""
        return min(steps_per_epoch * self.num_epochs, self.max_steps or sys.maxsize)


@dataclass
class Progress:
    """Where a run stands; with the weights, all that resuming needs."""

    epoch: int = 0
    step: int = 0  # within the epoch
    total_steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry per validation

    def ran_out(self, patience: int | None) -> bool:
        """Whether the last `patience` validations all failed to beat the best before them."""
        losses = [entry["loss"] for entry in self.history]
        if patience is None or not losses:
            return False
        return len(losses) - 1 - losses.index(min(losses)) >= patience


class Trainer:
    """Model, optimisers, averaged weights, and the one step they make."""

    def __init__(self, config: TrainConfig, learner: Learner, num_steps: int) -> None:
        self.config, self.learner, self.num_steps = config, learner, num_steps
        self.model: nn.Module = learner.model  # may be wrapped by what synchronises gradients
        sharded = config.table_placement == "sharded"
        self.shards = shard_tables(learner.model) if sharded else Shards()
        self.optimizer = make_optimizer(learner.model, config.optim, self.shards)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.device = torch.device("cpu")
        decay = config.optim.ema_decay
        self.average = None if decay is None else Average(learner.model, decay)
        self.num_skipped = self.skipped_in_a_row = 0

    def place(self, wrapped: nn.Module, device: torch.device) -> None:
        """Train through `wrapped` on `device`; call before the first step."""
        self.model, self.device = wrapped, device
        if self.average:
            self.average.restart(0)

    def step(
        self, batch: Tensors, total_steps: int, more: Sequence[Tensors] = ()
    ) -> dict[str, float]:
        """One update, or none where a gradient is not finite.

        Args:
            batch: as the learner gives it, on any device.
            total_steps: steps made so far, which sets the learning rate.
            more: further batches of the same step. The loss is then the mean of all batches'
                on all workers, each by its "weight": that of one batch of them all, if the
                loss is a mean over that weight. Without, it is the mean of the workers' means.

        Returns:
            The learner's scalars before the update, likewise over this worker's batches.

        Raises:
            FloatingPointError: too many steps in a row had no finite gradient.
        """
        scale = lr_scale(total_steps, self.num_steps, self.config.optim.warmup_steps)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * scale
        self.optimizer.zero_grad()
        means = self._accumulate([batch, *more]) if more else self._backward(batch)
        parameters = self.learner.model.parameters()
        norm = self.shards.clip_grad_norm(parameters, self.config.optim.grad_clip)
        if norm.isfinite():
            self.optimizer.step()
            if self.average:
                self.average.update()
            self.skipped_in_a_row = 0
        else:
            self._skip(total_steps)
        return means

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Tensors]) -> Totals:
        """The learner's measures, added up over held-out batches: name -> sum and weight."""
        self.learner.model.eval()
        totals: Totals = {}
        with self.average.in_place() if self.average else nullcontext():
            for batch in batches:
                measures = self._apply(self.learner.measure, self.learner.model, batch)
                for name, pair in measures.items():
                    before = totals.get(name, (0.0, 0.0))
                    totals[name] = (before[0] + pair[0].item(), before[1] + pair[1].item())
            self.shards.serve()  # workers may have different numbers of batches
        self.learner.model.train()
        return totals

    def weights(self) -> dict[str, Tensor]:
        """What is evaluated and kept: averaged, if an average is; tables as `Shards.whole`."""
        averaged = self.average.weights if self.average else {}
        return self.shards.whole(self.learner.model.state_dict() | averaged)

    def state_dict(self) -> dict[str, Any]:
        """All that, with `weights`, resuming to the bit needs; likewise asked of all workers."""
        average = self.average and {
            "num_updates": self.average.num_updates,
            "model": self.shards.whole(self.learner.model.state_dict()),
        }
        return {
            "optimizer": self.optimizer.state_dict(),
            "average": average,
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def load_state_dict(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go on from what `weights` and `state_dict` gave; call after `place`."""
        self.learner.model.load_state_dict(self.shards.part(weights))
        if self.average:
            self.average.restart(state["average"]["num_updates"])
            self.learner.model.load_state_dict(self.shards.part(state["average"]["model"]))
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_skipped = state["num_skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]

    def _apply(
        self, function: Callable[[nn.Module, Tensors], T], model: nn.Module, batch: Tensors
    ) -> T:
        """A learner's `loss` or `measure` on this device, in this precision."""
        batch = {name: t.to(self.device, non_blocking=True) for name, t in batch.items()}
        enabled = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            return function(model, batch)

    def _backward(self, batch: Tensors, weighted: bool = False) -> dict[str, float]:
        """Add a batch's gradient, times its weight if wanted, to the parameters'.

        A loss that is not finite makes the gradient NaN, which all workers get to see: they
        skip a step together or not at all.
        """
        parts = self._apply(self.learner.loss, self.model, batch)
        loss = parts["loss"] * (parts["loss"].detach() * 0 + 1)
        (loss * parts["weight"].detach() if weighted else loss).backward()
        return {name: part.item() for name, part in parts.items()}

    def _accumulate(self, batches: Sequence[Tensors]) -> dict[str, float]:
        """The gradient of the weighted mean over all batches of all workers."""
        totals: dict[str, float] = {}
        unsynced = getattr(self.model, "no_sync", nullcontext)
        for index, batch in enumerate(batches):
            with nullcontext() if index == len(batches) - 1 else unsynced():
                add_weighted(totals, self._backward(batch, weighted=True))
        weight = torch.tensor(totals["weight"], dtype=torch.float64, device=self.device)
        if torch.distributed.is_initialized():  # gradients were averaged over the workers
            torch.distributed.all_reduce(weight)
            weight /= torch.distributed.get_world_size()
        grads = [p.grad for p in self.learner.model.parameters() if p.grad is not None]
        torch._foreach_div_(grads, weight.item() or 1.0)
        whole = totals["weight"] or 1.0
        return {n: t if n == "weight" else t / whole for n, t in totals.items()}

    def _skip(self, total_steps: int) -> None:
        self.num_skipped, self.skipped_in_a_row = self.num_skipped + 1, self.skipped_in_a_row + 1
        if self.skipped_in_a_row > self.config.optim.max_skipped_in_a_row:
            raise FloatingPointError(
                f"step {total_steps}: the last {self.skipped_in_a_row} steps had no finite "
                "gradient; lower optim.lr, or raise optim.max_skipped_in_a_row"
            )


def add_weighted(totals: dict[str, float], parts: dict[str, float]) -> None:
    """Add each scalar times its weight, and the weight, to `totals`."""
    for name, value in parts.items():
        share = 1.0 if name == "weight" else parts["weight"]
        totals[name] = totals.get(name, 0.0) + value * share


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
    after_step: Callable[[dict[str, float]], bool | None],
) -> None:
    """Steps of the current epoch from where `progress` stands to its end.

    Args:
        trainer: makes the steps.
        stream: batches from step `progress.step` on, `accumulate` for each.
        progress: counted on.
        num_steps: of the epoch.
        after_step: gets the scalars of each step; true = stop here.

    Raises:
        RuntimeError: the data ended before.
    """
    each = trainer.config.accumulate
    ready = prefetch(itertools.islice(stream, (num_steps - progress.step) * each))
    for step in range(progress.step, num_steps):
        group = list(itertools.islice(ready, each))
        if len(group) < each:
            raise RuntimeError(f"epoch {progress.epoch}: data ended at {step}/{num_steps}")
        parts = trainer.step(group[0], progress.total_steps, group[1:])
        progress.step += 1
        progress.total_steps += 1
        if after_step(parts):
            return

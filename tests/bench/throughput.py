"""How fast training steps are, and how much of a machine's arithmetic they use. No Ray."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from train.loop import Trainer
from train.models.tokens import Tensors


def step_flops(trainer: Trainer, batch: Tensors) -> int:
    """Floating-point operations of one forward and backward pass, those of matrix products.

    Lookups, norms and everything else elementwise count as nothing, and so does the optimiser.
    Gradients are left on the parameters.
    """
    moved = {name: values.to(trainer.device) for name, values in batch.items()}
    with FlopCounterMode(display=False) as counter:
        trainer.learner.loss(trainer.model, moved)["loss"].backward()
    return counter.get_total_flops()


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype, size: int, num: int) -> float:
    """Median rate of `num` products of two square matrices of `size`; 2 size³ operations each."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(num + 1):
        started = time.perf_counter()
        a @ b
        finish(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[1:])  # the first one warms up


def seconds_per_step(trainer: Trainer, batches: Sequence[Tensors]) -> list[float]:
    """Wall clock of one step on each batch, which learns from it."""
    seconds = []
    for step, batch in enumerate(batches):
        started = time.perf_counter()
        trainer.step(batch, step)
        finish(trainer.device)
        seconds.append(time.perf_counter() - started)
    return seconds


def finish(device: torch.device) -> None:
    """Wait for what was started on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

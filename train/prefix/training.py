"""Trains one head on cached vectors of a frozen encoder; plain torch, no Ray.

Axes: N texts, E width of the encoder, L levels (coarse to fine), J blocks, D width of a vector.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.models.prefix import Head, PrefixConfig, SeparatedHead, make_head
from train.prefix.batches import validation_rows
from train.prefix.metrics import NUM_NEIGHBOURS, cosines, knn_hits, neighbours, r_precision
from train.prefix.objectives import FitConfig, SharedObjective
from train.prefix.teachers import make_teacher

Progress = Callable[[int, int, float], None]  # epochs done, of how many, score of the last
_KNN_ROWS = 1_000  # of the validation rows, as in V5: the first, which are those of few classes
_SCORED_ROWS = 1_500  # of the validation rows, spread over all classes
_AT_ONCE = 4_096  # texts embedded in one pass
_NEAR = 10  # neighbours that a part without labels should share with the encoder


@dataclass(frozen=True)
class TrainedHead:
    """A head in evaluation mode on the CPU, and how it came to be.

    Attributes:
        epochs: loss, scores on validation rows and "score", their sum, of each.
        kept: the epoch whose weights these are, from 0.
        validation: rows of the given texts that were not learned from.
        seconds: of the whole training.
    """

    head: Head
    config: FitConfig
    seed: int
    epochs: list[dict[str, float]]
    kept: int
    validation: NDArray[np.int64]
    seconds: float

    @property
    def shape(self) -> PrefixConfig:
        """Settings of the head."""
        return self.head.config

    def embed(self, features: NDArray[np.float32] | Tensor) -> Tensor:
        """Whole vectors of length 1: float32 [N, D]."""
        return self.prefix(features, len(self.shape.block_sizes))

    def prefix(self, features: NDArray[np.float32] | Tensor, num_blocks: int) -> Tensor:
        """The first blocks at length 1: float32 [N, their width]."""
        return embedded(self.head, torch.as_tensor(features), num_blocks)


def fit_head(
    features: NDArray[np.float32] | Tensor,
    labels: NDArray[np.int64],
    config: FitConfig,
    seed: int,
    progress: Progress | None = None,
) -> TrainedHead:
    """Train a head and keep the epoch that is best on validation rows, which are taken out here.

    The same arguments give the same weights on one machine with the same number of threads.

    Args:
        features: of the frozen encoder, as pooled. float32 [N, E].
        labels: coarse to fine, from 0. int64 [N, L]. With the objective `own` L may be 1: then
            the fine part learns to keep the encoder's own neighbours.
        config: as `condition` gives it.
        seed: of weights, batches and dropout; of the validation rows unless config.split_seed.
        progress: called after each epoch.

    Raises:
        ValueError: labels that do not fit the texts or the objective, features that are not
            finite, or too few texts to learn from or to choose an epoch by.
    """
    _check(features, labels, config)
    started = time.monotonic()
    device = torch.device(config.device)
    x = torch.as_tensor(features).float().to(device)
    split_seed = seed if config.split_seed is None else config.split_seed
    held = validation_rows(labels, config.validation_share, split_seed)
    rows = np.setdiff1d(np.arange(len(labels)), held)
    _check_rows(len(rows), len(held), config)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        head = make_head(shape_for(config, x.shape[1], labels)).to(device)
        if isinstance(head, SeparatedHead):
            head.start_from(x[rows])
        epochs, kept, state = _train(head, x, labels, rows, held, config, seed, progress)
    head.load_state_dict(state)
    seconds = time.monotonic() - started
    return TrainedHead(head.cpu().eval(), config, seed, epochs, kept, held, seconds)


def shape_for(config: FitConfig, input_size: int, labels: NDArray[np.int64]) -> PrefixConfig:
    """The shape of the head that `config` trains on these labels [N, L]."""
    objective, num_blocks = config.objective, len(config.block_sizes)
    if isinstance(objective, SharedObjective):
        num_labels = labels.max(axis=0) + 1
        classes = tuple(int(num_labels[level]) for level in objective.levels)
        return PrefixConfig(
            kind="shared",
            input_size=input_size,
            block_sizes=config.block_sizes,
            num_classes=classes,
        )
    num_parts = max(2, labels.shape[1])
    num_labels = tuple((labels.max(axis=0) + 1).tolist())
    return PrefixConfig(
        kind="separated",
        input_size=input_size,
        block_sizes=config.block_sizes,
        blocks_per_part=(1,) * (num_parts - 1) + (num_blocks - num_parts + 1,),
        part_weights=tuple(objective.finer**part for part in range(num_parts)),
        num_classes=num_labels if objective.classes else (),
    )


@torch.inference_mode()
def embedded(head: Head, features: Tensor, num_blocks: int) -> Tensor:
    """Prefixes of texts by a head in evaluation mode, a chunk at a time. [N, width]."""
    return torch.cat([head.prefix(chunk, num_blocks) for chunk in features.split(_AT_ONCE)])


def _train(
    head: Head,
    x: Tensor,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    held: NDArray[np.int64],
    config: FitConfig,
    seed: int,
    progress: Progress | None,
) -> tuple[list[dict[str, float]], int, dict[str, Tensor]]:
    """Scores of each epoch, the best one, and its weights."""
    teacher = make_teacher(head, config, x[torch.from_numpy(rows).to(x.device)], labels[rows])
    weights = [p for p in head.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    num_steps = config.num_epochs * max(1, len(rows) // config.batch_size)
    epochs: list[dict[str, float]] = []
    best, state, step = -math.inf, head.state_dict(), 0
    for epoch in range(config.num_epochs):
        head.train()
        losses = []
        for loss in teacher.epoch((seed, epoch)):
            if config.schedule == "cosine":
                share = 0.5 * (1 + math.cos(math.pi * step / num_steps))
                optimizer.param_groups[0]["lr"] = config.lr * share
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, config.grad_clip)
            optimizer.step()
            losses.append(loss.detach())
            step += 1
        head.eval()
        scores = _scores(head, x, labels, held, config.select)
        epochs.append({"loss": torch.stack(losses).mean().item(), **scores})
        if scores["score"] > best:
            best, kept = scores["score"], epoch
            state = copy.deepcopy(head.state_dict())
        if progress is not None:
            progress(epoch + 1, config.num_epochs, scores["score"])
    return epochs, kept, state


def _scores(
    head: Head, x: Tensor, labels: NDArray[np.int64], held: NDArray[np.int64], select: str
) -> dict[str, float]:
    """How good the head is on validation rows; "score" decides."""
    last, num_blocks = labels.shape[1] - 1, len(head.config.block_sizes)
    if select == "knn":
        taken = held[:_KNN_ROWS]
        near = neighbours(cosines(_vectors(head, x, taken, num_blocks)))
        truth = labels[taken]
        scores = {
            f"knn_l{level}": float(knn_hits(truth[near, level], truth[:, level]).mean())
            for level in range(last + 1)
        }
        return scores | {"score": sum(scores.values())}
    taken = held[np.linspace(0, len(held) - 1, min(len(held), _SCORED_ROWS)).astype(np.int64)]
    short = cosines(_vectors(head, x, taken, 1))
    whole = cosines(_vectors(head, x, taken, num_blocks))
    scores = {"r_l0_first": _mean(r_precision(short, labels[taken, 0]))}
    if last:
        scores[f"r_l{last}_whole"] = _mean(r_precision(whole, labels[taken, last]))
    else:
        scores["encoder_neighbours"] = _shared_neighbours(whole, cosines(x[taken].cpu()))
    return scores | {"score": sum(scores.values())}


def _mean(values: NDArray[np.float64]) -> float:
    """Of those that are not NaN; 0 if all are, as where no class has two validation texts."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def _vectors(head: Head, x: Tensor, rows: NDArray[np.int64], num_blocks: int) -> Tensor:
    return embedded(head, x[torch.from_numpy(rows).to(x.device)], num_blocks).cpu()


def _shared_neighbours(near: Tensor, true: Tensor) -> float:
    """Share of the nearest by one nearness [N, N] that are among the nearest by another."""
    k = min(_NEAR, len(near) - 1)
    said, right = neighbours(near, k), neighbours(true, k)
    return float((said[:, :, None] == right[:, None, :]).any(axis=2).mean())


def _check(features: Any, labels: NDArray[np.int64], config: FitConfig) -> None:
    if labels.ndim != 2 or len(labels) != len(features):
        raise ValueError(f"labels: {labels.shape}, expected [{len(features)}, levels]")
    bad = np.flatnonzero(~torch.as_tensor(features).isfinite().all(dim=1).numpy())
    if len(bad):
        raise ValueError(f"features: {len(bad)} rows are not finite, the first is {bad[0]}")
    objective = config.objective
    if isinstance(objective, SharedObjective) and len(objective.whole) != labels.shape[1]:
        raise ValueError(
            f"labels: {labels.shape[1]} levels, but {config.condition} was made for "
            f"{len(objective.whole)}"
        )
    parts = max(2, labels.shape[1])
    if not isinstance(objective, SharedObjective) and len(config.block_sizes) < parts:
        raise ValueError(
            f"block_sizes: {len(config.block_sizes)} blocks, but {parts} parts need one each"
        )
    if len(labels) < 2 * config.batch_size:
        raise ValueError(f"{len(labels)} texts, expected two batches of {config.batch_size}")


def _check_rows(num_train: int, num_held: int, config: FitConfig) -> None:
    """Enough is left on either side of the validation split."""
    least = NUM_NEIGHBOURS + 1 if config.select == "knn" else 1
    if num_held < least:
        raise ValueError(
            f"{num_held} validation rows, expected {least} or more to choose an epoch by: "
            "a class gives some if it has two texts"
        )
    if num_train < config.batch_size:
        raise ValueError(
            f"{num_train} texts to learn from, expected a batch of {config.batch_size}"
        )

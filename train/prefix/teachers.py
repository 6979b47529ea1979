"""The loss of one batch: what an objective asks of a head.

Axes: B texts of a batch, L levels, J blocks, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from train.models.prefix import Head, SeparatedHead, SharedBlockHead
from train.prefix.batches import Partners, balanced, shuffled
from train.prefix.losses import (
    cut_at_mode,
    distillation,
    draw_blocks,
    draw_lengths,
    first_blocks,
    info_nce,
    margin_loss,
    sup_con,
)
from train.prefix.objectives import FitConfig, OwnObjective, SharedObjective


class Teacher(Protocol):
    """Gives the batches of an epoch as losses with a gradient."""

    def epoch(self, seed: Sequence[int]) -> Iterator[Tensor]:
        """Losses of one epoch, each made from the head's weights at the time it is asked for."""


def make_teacher(
    head: Head, config: FitConfig, features: Tensor, labels: NDArray[np.int64]
) -> Teacher:
    """What teaches `head`.

    Args:
        head: on the device of `features`.
        config: its objective must be one for this kind of head.
        features: of the training texts alone, [N, E].
        labels: of the same, [N, L].
    """
    if isinstance(config.objective, OwnObjective):
        assert isinstance(head, SeparatedHead)
        return OwnTeacher(head, config.objective, config.batch_size, features, labels)
    assert isinstance(head, SharedBlockHead)
    return SharedTeacher(head, config.objective, config.batch_size, features, labels)


class SharedTeacher:
    """V5's family. Anchors and their partners go through the head once, in one pass.

    The original passes an anchor through it once for its whole vector and once more for its
    prefix, with other dropout noise, and MRL's partner twice, too. Each loss has the same
    distribution either way; this is a quarter less work.
    """

    def __init__(
        self,
        head: SharedBlockHead,
        objective: SharedObjective,
        batch_size: int,
        features: Tensor,
        labels: NDArray[np.int64],
    ) -> None:
        self.head, self.objective, self.batch_size = head, objective, batch_size
        self.features, self.labels = features, torch.from_numpy(labels).to(features.device)
        self.num_blocks = len(head.config.block_sizes)
        self.partners = [Partners(labels[:, level]) for level in range(labels.shape[1])]
        self.whole = torch.tensor(objective.whole)[None]  # [1, L]
        self.prefix = torch.tensor(objective.prefix)  # [J, L]
        used = [i for i, weight in enumerate(objective.whole) if weight]
        prefixed = [
            i for i, weights in enumerate(zip(*objective.prefix, strict=True)) if any(weights)
        ]
        self.levels = sorted({*used, *prefixed}) if objective.contrastive else []
        # Of several classifiers of one level the last is that of whole vectors.
        self.of_whole = {level: at for at, level in enumerate(objective.levels)}
        self.of_prefix = {level: objective.levels.index(level) for level in self.of_whole}

    def epoch(self, seed: Sequence[int]) -> Iterator[Tensor]:
        """See `Teacher`."""
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        partners = [self.partners[level].draw(rng) for level in self.levels]
        for rows in shuffled(len(self.features), self.batch_size, rng):
            yield self._loss([rows, *(partner[rows] for partner in partners)], generator)

    def _loss(self, texts: list[NDArray[np.int64]], generator: torch.Generator) -> Tensor:
        o, num = self.objective, len(texts[0])
        rows = torch.from_numpy(np.concatenate(texts)).to(self.features.device)
        blocks, *others = self.head.blocks(self.features[rows]).split(num)
        labels = self.labels[rows[:num]]
        kept = self._widened(draw_blocks(num, torch.tensor(o.keep), generator))
        anchor, *partners = self.head.whole(torch.cat([blocks * kept, *others])).split(num)
        found = dict(zip(self.levels, partners, strict=True))
        weights = self.whole.expand(num, -1)
        loss = self._path(self.of_whole, anchor, weights, found, labels)
        for length in self._lengths(num, generator):
            prefix = blocks * self._widened(first_blocks(length, self.num_blocks))
            vectors, weights = F.normalize(prefix, dim=-1), self.prefix[length - 1]
            part = self._path(self.of_prefix, vectors, weights, found, labels)
            share = o.length_weights[int(length[0]) - 1] if o.lengths == "all" else 1.0
            loss = loss + o.prefix_weight * share * part
        return loss

    def _lengths(self, num: int, generator: torch.Generator) -> list[Tensor]:
        """Lengths [B] of the prefixes of each text; of all lengths, one list for each."""
        o = self.objective
        if o.lengths == "none":
            return []
        if o.lengths == "all":
            return [torch.full((num,), length + 1) for length in range(self.num_blocks)]
        lengths = draw_lengths(num, torch.tensor(o.length_weights), generator)
        return [cut_at_mode(lengths, self.num_blocks) if o.lengths == "mode" else lengths]

    def _widened(self, mask: Tensor) -> Tensor:
        wide = mask.repeat_interleave(torch.tensor(self.head.config.block_sizes), dim=1)
        return wide.to(self.features.device)

    def _path(
        self,
        classifier: dict[int, int],
        vectors: Tensor,
        weights: Tensor,
        found: dict[int, Tensor],
        labels: Tensor,
    ) -> Tensor:
        """Loss of whole vectors or of prefixes, [B, D], at weights [B, L].

        Args:
            classifier: of each level.
            vectors: unit rows.
            weights: of each text's loss on each level.
            found: of each level with a contrastive loss, whole vectors of the texts' partners.
            labels: [B, L].
        """
        o, total = self.objective, vectors.new_zeros(())
        for level in range(labels.shape[1]):
            if not weights[:, level].any():
                continue
            weight, truth = weights[:, level].to(vectors.device), labels[:, level]
            if o.contrastive:
                cost = info_nce(vectors, found[level], o.temperature)
                total = total + o.contrastive * (cost * weight).mean()
            if o.margin:
                total = total + o.margin * margin_loss(vectors, truth, o.least_gap, weight)
            if o.classes:
                logits = self.head.classifiers[classifier[level]](vectors)
                cost = F.cross_entropy(logits, truth, reduction="none")
                total = total + o.classes * (cost * weight).mean()
        return total


class OwnTeacher:
    """The separated head's: each part by its level's labels, the finest by the encoder, too."""

    def __init__(
        self,
        head: SeparatedHead,
        objective: OwnObjective,
        batch_size: int,
        features: Tensor,
        labels: NDArray[np.int64],
    ) -> None:
        self.head, self.objective, self.batch_size = head, objective, batch_size
        self.features, self.labels = features, labels
        self.on_device = torch.from_numpy(labels).to(features.device)

    def epoch(self, seed: Sequence[int]) -> Iterator[Tensor]:
        """See `Teacher`."""
        rng = np.random.default_rng(seed)
        for rows in balanced(self.labels, self.batch_size, self.objective.per_class, rng):
            yield self._loss(torch.from_numpy(rows).to(self.features.device))

    def _loss(self, rows: Tensor) -> Tensor:
        o, features, labels = self.objective, self.features[rows], self.on_device[rows]
        parts = self.head.split(features)
        loss = features.new_zeros(())
        for part, truth in zip(parts, labels.T, strict=False):  # a part may have no labels
            loss = loss + o.parts * sup_con(part, truth, o.temperature)
        for part, centres, truth in zip(parts, self.head.centres, labels.T, strict=False):
            logits = part @ F.normalize(centres, dim=-1).T / o.temperature
            loss = loss + o.classes * F.cross_entropy(logits, truth)
        if len(parts) == labels.shape[1] and o.whole:
            loss = loss + o.whole * sup_con(self.head.join(parts), labels[:, -1], o.temperature)
        if o.distil:
            teacher = F.normalize(features, dim=-1)
            loss = loss + o.distil * distillation(parts[-1], teacher, o.distil_temperature)
        return loss

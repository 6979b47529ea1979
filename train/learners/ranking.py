"""How the ranker learns: every action of every candidate.

Axes: B examples, C candidates, K borrowed posts, A actions.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from configs import Config
from pipelines.encoding import multi_hot, pad
from pipelines.facts import Facts
from pipelines.features import Inputs, candidate_inputs, example_targets, history_inputs
from pipelines.prepared import read_manifest
from pipelines.schema import DWELL_TIME
from train.learners.borrowed import Borrowed, borrow
from train.learners.budget import within
from train.learners.measures import Measures, of_actions, of_scalars
from train.losses import action_loss, dwell_absolute_error, dwell_deviance
from train.models.ranker import Ranker, RankerConfig, dwell_seconds
from train.models.tokens import Tensors, tensors


class RankerLearning(Config):
    """The ranker and what it minimises."""

    trained_on: ClassVar[str] = "examples/split=train"  # folder of the prepared data

    kind: Literal["ranker"] = "ranker"
    model: RankerConfig = RankerConfig()
    dwell_weight: NonNegativeFloat = 0.1  # of the dwell error beside the action loss
    num_borrowed: NonNegativeInt = 0  # posts per example that others were shown, as negatives
    # Events a batch may hold, for each of its examples; the longest histories give up their
    # oldest. Also when validating. None = up to history_len each.
    tokens_per_example: PositiveInt | None = None


class RankingLearner:
    """Multi-action cross-entropy plus the error of the time spent."""

    def __init__(self, settings: RankerLearning, data: Path) -> None:
        self.model: nn.Module = Ranker(settings.model)
        self.spec, self.settings = settings.model.features, settings
        self.facts = Facts.load(data)
        self.facts.check_content(self.spec.content_size, self.spec.num_code_levels, data)
        manifest = read_manifest(data)
        self.action_names = list(manifest["actions"])
        self.action_names[DWELL_TIME] = ""  # no yes or no
        # Who was never shown a post did not like it; nor did he report it, which says nothing.
        self.told_by_borrowed = np.array(manifest["action_weights"]) >= 0
        self.told_by_borrowed[DWELL_TIME] = False

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Inputs and targets of every candidate; with borrowed ones, loss_weight [B, C + K]."""
        spec = within(self.settings.tokens_per_example, rows, self.spec)
        targets = example_targets(rows, spec)
        num_shown = targets["labels"].shape[1]
        post_id, author_id, surface, at_ms = (
            pad(rows[name], num_shown)
            for name in ("post_id", "author_id", "surface", "shown_at_ms")
        )
        if self.settings.num_borrowed:
            borrowed = borrow(rows, self.settings.num_borrowed, self.facts, rng)
            post_id = np.concatenate([post_id, borrowed.post_id], axis=1)
            author_id = np.concatenate([author_id, borrowed.author_id], axis=1)
            surface = np.concatenate([surface, borrowed.surface], axis=1)
            at_ms = np.concatenate([at_ms, borrowed.at_ms], axis=1)
            targets = self._with_borrowed(targets, borrowed, rows)
        candidates = candidate_inputs(rows, post_id, author_id, surface, at_ms, spec, self.facts)
        return tensors({**history_inputs(rows, spec, self.facts), **candidates, **targets})

    def _with_borrowed(self, targets: Inputs, borrowed: Borrowed, rows: pa.Table) -> Inputs:
        """Nothing was done to borrowed posts, as far as the log of the visit could tell."""
        could_tell = multi_hot(pad(rows["observed"], 1), self.spec.num_actions)
        mask = could_tell * self.told_by_borrowed * (borrowed.post_id != 0)[..., None]
        mask = mask.astype(np.float32)
        own = np.ones(targets["labels"].shape[:2], np.float32)
        return {
            "labels": np.concatenate([targets["labels"], np.zeros_like(mask)], axis=1),
            "label_mask": np.concatenate([targets["label_mask"], mask], axis=1),
            "loss_weight": np.concatenate([own, borrowed.weight], axis=1),
        }

    def loss(self, model: nn.Module, batch: Tensors) -> dict[str, Tensor]:
        """Action loss in nats per candidate, dwell loss as a share of the cap."""
        return self._loss(model(batch), batch)

    def _loss(self, logits: Tensor, batch: Tensors) -> dict[str, Tensor]:
        labels, mask, weight = batch["labels"], batch["label_mask"], batch.get("loss_weight")
        config = self.settings.model
        dwell_loss = dwell_deviance if config.dwell_loss == "tweedie" else dwell_absolute_error
        seconds = dwell_seconds(logits[..., DWELL_TIME], config)
        action = action_loss(logits, labels, mask, weight)
        dwell = dwell_loss(seconds, labels, mask, config.dwell_cap_s)
        observed = mask.amax(dim=-1)
        return {
            "loss": action + self.settings.dwell_weight * dwell,
            "action_loss": action,
            "dwell_loss": dwell,
            "weight": (observed if weight is None else observed * weight).sum(),
        }

    def measure(self, model: nn.Module, batch: Tensors) -> Measures:
        """The losses on the posts really shown, and how each action fares."""
        own = self.shown(batch)
        logits = model(own)
        actions = of_actions(logits, own["labels"], own["label_mask"], self.action_names)
        return of_scalars(self._loss(logits, own)) | actions

    def shown(self, batch: Tensors) -> Tensors:
        """A batch without its borrowed posts."""
        num = batch["labels"].shape[1] - self.settings.num_borrowed
        per_candidate = ("candidate_", "label")
        own = {n: t[:, :num] if n.startswith(per_candidate) else t for n, t in batch.items()}
        own.pop("loss_weight", None)
        return own

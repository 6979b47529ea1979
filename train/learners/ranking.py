"""How the ranker learns: every action of every candidate. Axes: B examples, C candidates."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from configs import Config
from pipelines.facts import Facts
from pipelines.features import example_inputs, example_targets
from pipelines.schema import DWELL_TIME
from train.losses import action_loss, dwell_loss
from train.models.ranker import Ranker, RankerConfig, dwell_seconds
from train.models.tokens import Tensors, tensors


class RankerLearning(Config):
    """The ranker and what it minimises."""

    trained_on: ClassVar[str] = "examples/split=train"  # folder of the prepared data

    kind: Literal["ranker"] = "ranker"
    model: RankerConfig = RankerConfig()
    dwell_weight: NonNegativeFloat = 0.1  # of the dwell error beside the action loss


class RankingLearner:
    """Multi-action cross-entropy plus the error of the time spent."""

    def __init__(self, settings: RankerLearning, data: Path) -> None:
        self.model: nn.Module = Ranker(settings.model)
        self.spec, self.settings = settings.model.features, settings
        self.facts = Facts.load(data)
        self.facts.check_content(self.spec.content_size, data)

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Inputs and targets of every candidate."""
        return tensors(
            example_inputs(rows, self.spec, self.facts) | example_targets(rows, self.spec)
        )

    def loss(self, model: nn.Module, batch: Tensors) -> dict[str, Tensor]:
        """Action loss in nats per candidate, dwell loss as a share of the cap."""
        logits = model(batch)
        labels, mask = batch["labels"], batch["label_mask"]
        seconds = dwell_seconds(logits[..., DWELL_TIME], self.spec)
        action = action_loss(logits, labels, mask)
        dwell = dwell_loss(seconds, labels, mask, self.spec.dwell_cap_s)
        total = action + self.settings.dwell_weight * dwell
        return {
            "loss": total,
            "action_loss": action,
            "dwell_loss": dwell,
            "weight": mask.amax(dim=-1).sum(),
        }

"""What is learned: rows of examples -> tensors -> a loss, one learner per kind of model.

A learner is plain torch and numpy; the loop around it neither knows the model
nor the loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from train.learners.measures import Measures
from train.learners.next_event import NextEventLearner, NextEventLearning
from train.learners.ranking import RankerLearning, RankingLearner
from train.learners.retrieval import RetrievalLearner, RetrievalLearning
from train.models.tokens import Tensors

Learning = RankerLearning | RetrievalLearning | NextEventLearning


class Learner(Protocol):
    """A model and how to learn it."""

    @property
    def model(self) -> nn.Module:
        """What learns."""

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Rows as tensors; `rng` draws the negatives.

        Args:
            rows: of the folder that the settings name as `trained_on`, or schema.EXAMPLES.
            rng: of this batch alone.
        """

    def loss(self, model: nn.Module, batch: Tensors) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised, "weight" is how much evidence it rests on.

        Args:
            model: `self.model` or a wrapper of it that synchronises gradients.
            batch: as `batch` gives it.
        """

    def measure(self, model: nn.Module, batch: Tensors) -> Measures:
        """What held-out rows say; the mean called "loss" decides which weights are kept."""


def make_learner(settings: Learning, data: Path) -> Learner:
    """The learner that `settings` describe, for the prepared data in `data`."""
    if isinstance(settings, RankerLearning):
        return RankingLearner(settings, data)
    if isinstance(settings, NextEventLearning):
        return NextEventLearner(settings, data)
    return RetrievalLearner(settings, data)

"""What is learned: rows of examples -> tensors -> a loss, one learner per kind of model.

A learner is plain torch and numpy; the loop around it neither knows the model
nor the loss. Axes: B examples, C candidates, P positives, G global negatives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from configs import Config
from pipelines.features import example_inputs, example_targets, history_inputs, pad
from pipelines.schema import ACTION_NAMES, DWELL_TIME
from train.losses import action_loss, dwell_loss, sampled_softmax_loss
from train.models.ranker import Ranker, RankerConfig, dwell_seconds
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import Tensors


class RankerLearning(Config):
    """The ranker and what it minimises."""

    kind: Literal["ranker"] = "ranker"
    model: RankerConfig = RankerConfig()
    dwell_weight: NonNegativeFloat = 0.1  # of the dwell error beside the action loss


class RetrievalLearning(Config):
    """The two towers and what they minimise."""

    kind: Literal["retrieval"] = "retrieval"
    model: RetrievalConfig = RetrievalConfig()
    positive: str = "click"  # the action that makes a shown post a positive
    num_global_negatives: PositiveInt = 128  # drawn uniformly from the corpus, a batch


Learning = RankerLearning | RetrievalLearning


class Learner(Protocol):
    """A model and how to learn it."""

    model: nn.Module

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Rows of schema.EXAMPLES as tensors; `rng` draws the negatives."""

    def loss(self, model: nn.Module, batch: Tensors) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised, "weight" is how much evidence it rests on.

        Args:
            model: `self.model` or a wrapper of it that synchronises gradients.
            batch: as `batch` gives it.
        """


class RankingLearner:
    """Multi-action cross-entropy plus the error of the time spent."""

    def __init__(self, settings: RankerLearning) -> None:
        self.model: nn.Module = Ranker(settings.model)
        self.spec, self.settings = settings.model.features, settings

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Inputs and targets of every candidate."""
        return _tensors(example_inputs(rows, self.spec) | example_targets(rows, self.spec))

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


class RetrievalLearner:
    """Sampled softmax over the batch's positives and uniform negatives, log-Q corrected."""

    def __init__(self, settings: RetrievalLearning, data: Path) -> None:
        if settings.positive not in ACTION_NAMES:
            raise ValueError(f"positive: {settings.positive!r} is none of {ACTION_NAMES}")
        self.model: nn.Module = TwoTower(settings.model)
        self.spec, self.settings = settings.model.features, settings
        self.bit = 1 << ACTION_NAMES.index(settings.positive)
        posts = pq.read_table(data / "posts.parquet", columns=["post_id", "author_id"])
        self.post_id = posts["post_id"].to_numpy()
        self.author_id = pc.fill_null(posts["author_id"], 0).to_numpy()
        order = np.argsort(self.post_id)
        self.post_id, self.author_id = self.post_id[order], self.author_id[order]
        self.share = self._share_of_positives(data)

    def _share_of_positives(self, data: Path) -> np.ndarray:
        """How often each post is the positive of the training split. float64 [N], sums to 1."""
        rows = pq.read_table(data / "examples" / "split=train", columns=["post_id", "did"])
        post_id, did = (
            rows[name].combine_chunks().flatten().to_numpy() for name in rows.schema.names
        )
        counts = np.bincount(
            np.searchsorted(self.post_id, post_id[did & self.bit != 0]), minlength=len(self.post_id)
        )
        if not counts.any():
            raise ValueError(
                f"{data}: no {self.settings.positive} in the training split; choose another action "
                "as learning.positive"
            )
        return counts / counts.sum()

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Viewers, their positives, and the pool: positives' posts, then global negatives."""
        num_candidates = int(pc.max(pc.list_value_length(rows["post_id"])).as_py())
        post_id, did = pad(rows["post_id"], num_candidates), pad(rows["did"], num_candidates)
        viewer, slot = np.nonzero(did & self.bit)
        positives = np.searchsorted(self.post_id, post_id[viewer, slot])
        negatives = rng.integers(len(self.post_id), size=self.settings.num_global_negatives)
        pool = np.concatenate([positives, negatives])
        expected = len(positives) * self.share[pool] + len(negatives) / len(self.post_id)
        return _tensors(
            history_inputs(rows, self.spec)
            | {
                "viewer": viewer,
                "pool_id": self.post_id[pool],
                "pool_post_hashes": self.spec.hashes("post", self.post_id[pool]),
                "pool_author_hashes": self.spec.hashes("author", self.author_id[pool]),
                "pool_log_expected_count": np.log(expected).astype(np.float32),
            }
        )

    def loss(self, model: nn.Module, batch: Tensors) -> dict[str, Tensor]:
        """Softmax loss in nats per positive."""
        user, pool, temperature = model(batch)
        viewer = batch["viewer"]
        loss = sampled_softmax_loss(
            user[viewer],
            pool,
            torch.arange(len(viewer), device=viewer.device),
            batch["pool_id"],
            batch["pool_log_expected_count"],
            temperature,
        )
        return {
            "loss": loss,
            "temperature": temperature.detach(),
            "weight": loss.new_tensor(len(viewer)),
        }


def make_learner(settings: Learning, data: Path) -> Learner:
    """The learner that `settings` describe, for the prepared data in `data`."""
    if isinstance(settings, RankerLearning):
        return RankingLearner(settings)
    return RetrievalLearner(settings, data)


def _tensors(arrays: dict[str, np.ndarray]) -> Tensors:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}

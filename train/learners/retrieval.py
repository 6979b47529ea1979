"""How the two towers learn: viewers near what they engaged with.

Axes: B examples, P positives, G global negatives.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from configs import Config
from pipelines.encoding import pad
from pipelines.facts import Facts
from pipelines.features import history_inputs, post_inputs
from pipelines.schema import ACTION_NAMES
from train.losses import sampled_softmax_loss
from train.models.retrieval import RetrievalConfig
from train.models.text_towers import make_towers
from train.models.tokens import Tensors, tensors


class RetrievalLearning(Config):
    """The two towers and what they minimise."""

    trained_on: ClassVar[str] = "examples/split=train"  # folder of the prepared data

    kind: Literal["retrieval"] = "retrieval"
    model: RetrievalConfig = RetrievalConfig()
    positive: str = "click"  # the action that makes a shown post a positive
    num_global_negatives: PositiveInt = 128  # drawn uniformly from the corpus, a batch


class RetrievalLearner:
    """Sampled softmax over the batch's positives and uniform negatives, log-Q corrected."""

    def __init__(self, settings: RetrievalLearning, data: Path) -> None:
        if settings.positive not in ACTION_NAMES:
            raise ValueError(f"positive: {settings.positive!r} is none of {ACTION_NAMES}")
        self.model: nn.Module = make_towers(settings.model)
        self.spec, self.settings = settings.model.features, settings
        self.facts = Facts.load(data)
        self.facts.check_content(self.spec.content_size, data)
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
        return tensors(
            history_inputs(rows, self.spec, self.facts)
            | post_inputs(
                self.post_id[pool],
                self.author_id[pool],
                self.settings.model.post_features,
                self.facts,
            )
            | {
                "viewer": viewer,
                "pool_id": self.post_id[pool],
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

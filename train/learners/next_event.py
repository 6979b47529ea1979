"""How the two towers learn from whole histories: every event from those before it, in one pass.

The user tower is causal, so that one pass over a history places the viewer at every point of
it; a history of n events gives up to n positives where the visits of `RetrievalLearner` would
compute it n times.

Axes: B viewers, S history slots, P positives, K negatives, N posts of the corpus.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from configs import Config
from pipelines.encoding import pad
from pipelines.facts import Facts
from pipelines.features import history_inputs
from pipelines.schema import ACTION_NAMES
from train.learners.corpus import Corpus
from train.learners.measures import Measures, of_scalars
from train.learners.warm_start import positives_in_order, start_from_transitions
from train.losses import uniform_softmax_loss
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import Tensors, tensors


class NextEventLearning(Config):
    """The two towers and what they minimise."""

    trained_on: ClassVar[str] = "sequences"  # folder of the prepared data

    kind: Literal["next_event"] = "next_event"
    model: RetrievalConfig = RetrievalConfig()
    positive: str = "click"  # events with this action are what is learned to come next
    # Posts, drawn uniformly for each batch, that every positive is held against; null = all.
    num_negatives: PositiveInt | None = None
    # The post table starts from what follows what in the training sequences, which the first
    # epochs would otherwise be spent on; see train/learners/warm_start.py.
    warm_start: bool = False
    # Histories of a batch, sorted by length, that are padded to one length; null = all. On a CPU
    # a few at a time save a third of the work, on a GPU all at once is faster.
    rows_at_once: PositiveInt | None = None

    @model_validator(mode="after")
    def _nothing_relative_to_now(self) -> NextEventLearning:
        spec = self.model.features
        if spec.context and spec.since:
            raise ValueError("model.features.since must be false: see pipelines/features.py")
        return self


class NextEventLearner:
    """Softmax over the corpus, or a uniform sample of it, at every event of a history."""

    def __init__(self, settings: NextEventLearning, data: Path) -> None:
        if settings.positive not in ACTION_NAMES:
            raise ValueError(f"positive: {settings.positive!r} is none of {ACTION_NAMES}")
        towers = TwoTower(settings.model)
        self.model: nn.Module = towers
        self.spec, self.settings = settings.model.features, settings
        self.facts = Facts.load(data)
        self.facts.check_content(self.spec.content_size, self.spec.num_code_levels, data)
        self.bit = 1 << ACTION_NAMES.index(settings.positive)
        self.corpus = Corpus.load(data)
        self.pool = tensors(self.corpus.inputs(settings.model.post_features, self.facts))
        if settings.warm_start:
            rows = pq.read_table(data / settings.trained_on)
            posts = positives_in_order(rows, self.bit)
            start_from_transitions(towers, self.corpus.post_id, self.corpus.row(posts))

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Histories, where in them something positive follows, and what it is.

        Args:
            rows: whole histories of the training split; or visits, rows of schema.EXAMPLES, of
                which only the posts shown are learned, each from the history as of the visit.
            rng: draws the negatives.
        """
        if "at_ms" not in rows.column_names:
            rows = rows.append_column("at_ms", pa.array(np.zeros(len(rows), np.int64)))
        length = pc.list_value_length(rows["history_post_id"]).to_numpy()
        order = np.argsort(length, kind="stable")
        rows, length = rows.take(order), length[order]
        longest = max(1, min(self.spec.history_len, int(length.max(initial=0))))
        spec = self.spec.model_copy(update={"history_len": longest})
        if "post_id" in rows.column_names:
            width = int(pc.max(pc.list_value_length(rows["post_id"])).as_py())
            post_id, did = (pad(rows[name], width) for name in ("post_id", "did"))
            viewer, slot = np.nonzero(did & self.bit)
            point = np.minimum(length, longest)[viewer]
        else:
            post_id, did = (
                pad(rows[f"history_{name}"], longest, newest=True) for name in ("post_id", "did")
            )
            viewer, slot = np.nonzero(did & self.bit)
            point = slot
        num_posts, num_negatives = len(self.corpus), self.settings.num_negatives
        if num_negatives is None or num_negatives >= num_posts:
            negatives = np.arange(num_posts)
        else:
            negatives = rng.choice(num_posts, num_negatives, replace=False)
        return self.pool | tensors(
            {
                **history_inputs(rows, spec, self.facts),
                "point": viewer * (1 + longest) + point,
                "positive": self.corpus.row(post_id[viewer, slot]),
                "negatives": negatives,
            }
        )

    def loss(self, model: nn.Module, batch: Tensors) -> dict[str, Tensor]:
        """Softmax loss in nats per positive."""
        users, posts, temperature = model(
            batch, along=True, rows_at_once=self.settings.rows_at_once
        )
        loss = uniform_softmax_loss(
            users.flatten(0, 1)[batch["point"]],
            posts,
            batch["positive"],
            batch["negatives"],
            temperature,
        )
        return {
            "loss": loss,
            "temperature": temperature.detach(),
            "weight": loss.new_tensor(len(batch["point"])),
        }

    def measure(self, model: nn.Module, batch: Tensors) -> Measures:
        """The loss, as for training."""
        return of_scalars(self.loss(model, batch))

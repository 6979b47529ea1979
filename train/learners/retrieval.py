"""How the two towers learn: viewers near what they engaged with.

Axes: B examples, C candidates, P positives, N posts of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from configs import Config
from pipelines.encoding import pad
from pipelines.facts import Facts
from pipelines.features import history_inputs
from pipelines.prepared import read_manifest
from train.learners.budget import within
from train.learners.corpus import Corpus
from train.learners.measures import Measures, of_scalars
from train.losses import sampled_softmax_loss
from train.models.retrieval import RetrievalConfig
from train.models.text_towers import make_towers
from train.models.tokens import Tensors, tensors
from train.runs import MODEL

Ids = NDArray[np.int64]


class RetrievalLearning(Config):
    """The two towers and what they minimise."""

    trained_on: ClassVar[str] = "examples/split=train"  # folder of the prepared data

    kind: Literal["retrieval"] = "retrieval"
    model: RetrievalConfig = RetrievalConfig()
    # Actions that make a shown post a positive, unless the viewer took a negative one, too (one
    # whose weight is below 0: report, not_interested, block_author, mute_author).
    positives: tuple[str, ...] = Field(default=("click",), min_length=1)
    num_global_negatives: PositiveInt = 128  # drawn uniformly from the corpus, a batch
    tokens_per_example: PositiveInt | None = None  # as the ranker's
    hard_negatives: bool = False  # posts of the visit with a negative action, for this viewer only
    # Weight of posts of the visit without a positive action, for this viewer only; 0 = none.
    soft_negative_weight: NonNegativeFloat = 0.0
    mask_known_positives: bool = True  # what a viewer liked, too, is no negative of theirs
    # What is done about popular posts being in the pool more often: nothing, the usual log-Q
    # correction, or the one that knows that a positive was not drawn: see `sampled_softmax_loss`.
    log_q: Literal["none", "standard", "corrected"] = "standard"
    mean_over: Literal["positives", "viewers"] = "positives"  # viewers: each visit weighs the same
    history_dropout: float = Field(default=0.0, ge=0, lt=1)  # share of visits learned without one
    # The learned temperature is used within these. 0.01 is where CLIP stops its scale (Radford et
    # al. 2021); at 1 the best post has at most e² times the odds of the worst.
    temperature_range: tuple[float, float] = (0.01, 1.0)

    # A run of configs/prefix/posts.yaml whose embeddings the towers read in place of the encoder's
    # vectors of text; model.features.content_size stays that of the encoder.
    prefix: str | None = None

    @model_validator(mode="after")
    def _has_something_to_forget(self) -> RetrievalLearning:
        if self.history_dropout and self.model.text == "projected":
            raise ValueError("history_dropout: towers with model.text: projected know no ids")
        return self

    @model_validator(mode="after")
    def _temperature_starts_in_range(self) -> RetrievalLearning:
        low, high = self.temperature_range
        if not 0 < low <= self.model.temperature <= high:
            raise ValueError(
                f"temperature_range {self.temperature_range}: need 0 < low <= "
                f"model.temperature {self.model.temperature} <= high"
            )
        return self


@dataclass(frozen=True)
class _Shown:
    """Posts of the visits, and what they are to their viewers. All [B, C]."""

    post_id: Ids
    positive: NDArray[np.bool_]
    hard: NDArray[np.bool_]  # a negative action
    soft: NDArray[np.bool_]  # no positive action, where one would have been observed


class RetrievalLearner:
    """Sampled softmax over the batch's positives, uniform negatives and each viewer's own."""

    def __init__(self, settings: RetrievalLearning, data: Path) -> None:
        towers = make_towers(settings.model)
        if settings.prefix is not None:
            towers.prefix.head.load_state_dict(load_file(Path(settings.prefix) / MODEL))
        self.model: nn.Module = towers
        self.spec, self.settings = settings.model.features, settings
        self.facts = Facts.load(data)
        self.facts.check_content(self.spec.content_size, self.spec.num_code_levels, data)
        self.liked, self.disliked = _action_bits(settings.positives, data)
        self.corpus = Corpus.load(data)
        self.post_id = self.corpus.post_id
        self.share = self._share_of_positives(data)

    def _share_of_positives(self, data: Path) -> np.ndarray:
        """How often each post is the positive of the training split. float64 [N], sums to 1."""
        rows = pq.read_table(data / "examples" / "split=train", columns=["post_id", "did"])
        post_id, did = (
            rows[name].combine_chunks().flatten().to_numpy() for name in rows.schema.names
        )
        counts = np.bincount(
            np.searchsorted(self.post_id, post_id[self._likes(did)]), minlength=len(self.post_id)
        )
        if not counts.any():
            raise ValueError(
                f"{data}: no {' or '.join(self.settings.positives)} in the training split; choose "
                "other actions as learning.positives"
            )
        return counts / counts.sum()

    def _likes(self, did: Ids) -> NDArray[np.bool_]:
        return (did & self.liked != 0) & (did & self.disliked == 0)

    def batch(self, rows: pa.Table, rng: np.random.Generator) -> Tensors:
        """Viewers, their positives, and the pool: [positives' posts | global | own negatives]."""
        shown = self._shown(rows)
        viewer, slot = np.nonzero(shown.positive)
        positives = np.searchsorted(self.post_id, shown.post_id[viewer, slot])
        negatives = rng.integers(len(self.post_id), size=self.settings.num_global_negatives)
        sampled = np.concatenate([positives, negatives])
        expected = len(positives) * self.share[sampled] + len(negatives) / len(self.post_id)
        owner, own, own_log_weight = self._own_negatives(shown, viewer)
        pool = np.concatenate([sampled, own])
        log_expected = np.log(expected) * (self.settings.log_q != "none")
        left_out = pool[None, :] == positives[:, None]  # copies of the positive
        if self.settings.mask_known_positives:
            left_out |= self._known(rows, shown, viewer, pool)
        left_out[:, len(sampled) :] = viewer[:, None] != owner
        per_viewer = np.bincount(viewer, minlength=len(rows))[viewer]
        spec = within(self.settings.tokens_per_example, rows, self.spec)
        batch = history_inputs(rows, spec, self.facts) | {
            "viewer": viewer,
            "weight": (1 / per_viewer).astype(np.float32),
            **self.corpus.inputs(self.settings.model.post_features, self.facts, pool),
            "pool_log_weight": np.concatenate([-log_expected, own_log_weight]).astype(np.float32),
            "left_out": left_out,
        }
        if self.settings.history_dropout:
            batch["forgotten"] = rng.random(len(rows)) < self.settings.history_dropout
        return tensors(batch)

    def _shown(self, rows: pa.Table) -> _Shown:
        num_candidates = int(pc.max(pc.list_value_length(rows["post_id"])).as_py())
        post_id, did, observed = (
            pad(rows[name], num_candidates) for name in ("post_id", "did", "observed")
        )
        hard = did & self.disliked != 0
        soft = ~hard & (did & self.liked == 0) & (observed & self.liked != 0)
        return _Shown(post_id, self._likes(did), hard, soft)

    def _own_negatives(self, shown: _Shown, viewer: Ids) -> tuple[Ids, Ids, NDArray[np.float64]]:
        """Posts only their own viewer is compared with: viewer, place in the corpus, log weight.

        They were not drawn, so there is nothing to correct.
        """
        weight = np.zeros(shown.post_id.shape)
        if self.settings.hard_negatives:
            weight[shown.hard] = 1
        weight[shown.soft] = self.settings.soft_negative_weight
        weight[np.bincount(viewer, minlength=len(weight)) == 0] = 0  # nothing to compare them with
        owner, slot = np.nonzero(weight)
        place = np.searchsorted(self.post_id, shown.post_id[owner, slot])
        return owner, place, np.log(weight[owner, slot])

    def _known(self, rows: pa.Table, shown: _Shown, viewer: Ids, pool: Ids) -> NDArray[np.bool_]:
        """Posts of the pool that a positive's viewer liked in their history or a visit. [P, N]."""
        _, who = np.unique(rows["user_id"].to_numpy(), return_inverse=True)
        past = rows["history_post_id"].combine_chunks()
        liked = self._likes(rows["history_did"].combine_chunks().flatten().to_numpy())
        past_of = np.repeat(who, past.value_lengths().to_numpy(zero_copy_only=False))[liked]
        past_id = past.flatten().to_numpy()[liked]
        row, slot = np.nonzero(shown.positive)
        post_id = np.concatenate([past_id, shown.post_id[row, slot]])
        whose = np.concatenate([past_of, who[row]])
        at = np.searchsorted(self.post_id, post_id).clip(max=len(self.post_id) - 1)
        in_corpus = self.post_id[at] == post_id
        known = whose[in_corpus] * len(self.post_id) + at[in_corpus]
        return np.isin(who[viewer][:, None] * len(self.post_id) + pool, known)

    def loss(self, model: nn.Module, batch: Tensors) -> dict[str, Tensor]:
        """Softmax loss in nats per positive."""
        if model.training and "forgotten" in batch:  # a history of padding is none
            past = batch["history_post_hashes"].masked_fill(batch["forgotten"][:, None, None], 0)
            batch = batch | {"history_post_hashes": past}
        user, pool, temperature = model(batch)
        temperature = temperature.clamp(*self.settings.temperature_range)
        viewer, log_weight = batch["viewer"], batch["pool_log_weight"]
        positive = torch.arange(len(viewer), device=viewer.device)
        per_viewer = self.settings.mean_over == "viewers"
        loss = sampled_softmax_loss(
            user[viewer],
            pool,
            positive,
            log_weight,
            temperature,
            batch["left_out"],
            log_weight[positive] if self.settings.log_q == "standard" else None,
            batch["weight"] if per_viewer else None,
        )
        weight = batch["weight"].sum() if per_viewer else loss.new_tensor(len(viewer))
        return {"loss": loss, "temperature": temperature.detach(), "weight": weight}

    def measure(self, model: nn.Module, batch: Tensors) -> Measures:
        """The loss, as for training."""
        return of_scalars(self.loss(model, batch))


def _action_bits(positives: tuple[str, ...], data: Path) -> tuple[int, int]:
    """Masks over the data's actions: the wanted ones, and those of weight below 0."""
    manifest = read_manifest(data)
    names, weights = manifest["actions"], manifest["action_weights"]
    for name in positives:
        if name not in names:
            raise ValueError(f"positives: {name!r} is none of {tuple(names)}")
        if weights[names.index(name)] < 0:
            raise ValueError(f"positives: {name!r} is a negative action: its weight is below 0")
    disliked = sum(1 << bit for bit, weight in enumerate(weights) if weight < 0)
    return sum(1 << names.index(name) for name in set(positives)), disliked

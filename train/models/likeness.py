"""What a candidate has in common with the liked posts of a history, as numbers that a model reads.

Computed inside the ranker from inputs that it has anyway, so that training and serving share it.

Axes: B viewers, S history slots, C candidates, E width of a text's vector, R numbers.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from configs import Config
from pipelines.schema import ACTIONS
from train.models.fractal.config import FieldConfig
from train.models.fractal.field import fit
from train.models.packing import Packing
from train.models.tokens import Tensors


class LikenessConfig(Config):
    """How candidates are compared with liked posts, by vectors of text."""

    # field: the interference field's scales, total, whether that is below 0, and the dimension of
    # the history. nearest: the cosine of the nearest liked post, and the mean of the nearest.
    kind: Literal["field", "nearest"] = "field"
    field: FieldConfig = FieldConfig(num_waves=16)
    num_nearest: PositiveInt = 5

    @property
    def size(self) -> int:
        """R."""
        return self.field.num_scales + 3 if self.kind == "field" else 2

    @model_validator(mode="after")
    def _likes_only(self) -> LikenessConfig:
        if self.field.signed:
            raise ValueError("field.signed must be false: only liked posts send waves here")
        return self


@torch.no_grad()
def likeness(inputs: Tensors, config: LikenessConfig) -> Tensor:
    """Numbers of each candidate, which depend on no other; 0 where nothing liked has a vector.

    Liked is an event with an action of positive weight and none of negative weight (of
    schema.ACTIONS; the time spent is no such action).

    Args:
        inputs: as `features.history_inputs` and `features.candidate_inputs` give them with a
            content_size, or `pack` of that.
        config: what is computed.

    Returns:
        float32 [B, C, R]; rows of padding candidates mean nothing.
    """
    real = _side("history", "post_hashes", inputs)[..., 0] != 0
    content = _side("history", "content", inputs)
    candidates = _side("candidate", "content", inputs)
    liked = real & is_liked(_side("history", "actions", inputs))
    if config.kind == "nearest":
        return _nearest(content, liked, candidates, config.num_nearest)
    order = (~liked).to(torch.uint8).argsort(dim=1, stable=True)  # the liked first, oldest first
    sources = content.gather(1, order[..., None].expand_as(content))
    field = fit(sources, lengths=liked.sum(1), config=config.field)
    scores = field.score(candidates)
    dimension = field.dimension.value.log1p()[:, None, None]
    columns = [scores.by_scale, scores.total[..., None], (scores.total < 0)[..., None]]
    columns.append(dimension.expand(*candidates.shape[:2], 1))
    known = liked.any(dim=1)[:, None, None]
    return torch.cat([column.float() for column in columns], dim=-1) * known


def is_liked(actions: Tensor) -> Tensor:
    """Which events were liked, of multi-hot actions [..., A]; bool [...]."""
    weights = [0.0 if action.continuous else action.weight for action in ACTIONS]
    weight = torch.tensor(weights, device=actions.device)
    did = actions[..., : len(weights)] != 0
    return (did & (weight > 0)).any(-1) & ~(did & (weight < 0)).any(-1)


def _nearest(content: Tensor, liked: Tensor, candidates: Tensor, num: int) -> Tensor:
    """Cosine of the nearest liked post with a vector, and the mean of the nearest `num`."""
    liked = liked & (content != 0).any(-1)
    cosine = _unit(candidates) @ _unit(content).mT  # [B, C, S]
    cosine = cosine.masked_fill(~liked[:, None], -torch.inf)
    nearest = cosine.topk(min(num, cosine.shape[-1]), dim=-1).values
    there = nearest.isfinite()
    nearest = nearest.masked_fill(~there, 0.0)
    mean = nearest.sum(-1) / there.sum(-1).clamp(min=1)
    return torch.stack([nearest[..., 0], mean], dim=-1)


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1, eps=1e-12)


def _side(side: str, name: str, inputs: Tensors) -> Tensor:
    """An input of one side, padded whether it is packed or not. [B, S, ...]."""
    values, valid = inputs[f"{side}_{name}"], inputs.get(f"{side}_valid")
    return values if valid is None else Packing.of(valid).unpack(values)

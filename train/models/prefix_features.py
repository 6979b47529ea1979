"""Prefix embeddings in the place of the encoder's vectors, made by a head that does not learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.models.prefix import PrefixConfig, make_head
from train.models.tokens import Tensors


class PrefixFeatures(nn.Module):
    """Vectors of posts' texts through a frozen head; a post without a text keeps its zeros."""

    def __init__(self, config: PrefixConfig) -> None:
        super().__init__()
        self.head = make_head(config).requires_grad_(False).eval()

    def forward(self, inputs: Tensors) -> Tensors:
        """The same with what ends in `_content` embedded. [..., E] -> [..., D]."""
        return {
            name: self._embedded(values) if name.endswith("_content") else values
            for name, values in inputs.items()
        }

    def train(self, mode: bool = True) -> PrefixFeatures:
        """Stay in evaluation mode: there is nothing to learn."""
        return super().train(False)

    @torch.no_grad()
    def _embedded(self, content: Tensor) -> Tensor:
        has = content.any(dim=-1)
        out = content.new_zeros(*content.shape[:-1], self.head.config.size)
        if has.any():
            out[has] = self.head.embed(content[has])
        return out

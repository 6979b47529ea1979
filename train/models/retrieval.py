"""Two towers: a viewer and every post in one space, compared by inner product.

Axes: B viewers, N posts, S history slots, n hashes of one id, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from configs import Config
from pipelines.features import FeatureSpec
from train.models.layers import Linear, Transformer, TransformerConfig, make_layout
from train.models.tokens import HashTables, HistoryTokens, Tensors, pack


class RetrievalConfig(Config):
    """Shape of both towers."""

    emb_size: PositiveInt = 64  # D
    transformer: TransformerConfig = TransformerConfig()
    features: FeatureSpec = FeatureSpec()
    compute_dtype: Literal["float32", "bfloat16"] = "float32"  # the transformer's
    packed: bool = False  # padding is computed only where tokens look at each other
    temperature: float = Field(default=0.1, gt=0)  # where the learned temperature starts


class TwoTower(nn.Module):
    """The user tower is the ranker's transformer without candidates, mean-pooled."""

    def __init__(self, config: RetrievalConfig) -> None:
        super().__init__()
        self.config = config
        spec, D = config.features, config.emb_size
        self.tables = HashTables(spec, D, kinds=("user", "post", "author"))
        self.dtype = getattr(torch, config.compute_dtype)
        self.tokens = HistoryTokens(spec, D, self.dtype)
        self.transformer = Transformer(D, config.transformer)
        num_ids = spec.num_post_hashes + spec.num_author_hashes
        self.tower_in = Linear(num_ids * D, 2 * D, variance=1 / (2 * D))
        self.tower_out = Linear(2 * D, D, variance=1 / D)
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(self, inputs: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Viewers and a pool of posts in one pass, for training.

        Args:
            inputs: as for `user`, with pool_post_hashes and pool_author_hashes [N, n].

        Returns:
            Viewers [B, D], posts [N, D], the temperature (a scalar).
        """
        pool = self.post(inputs["pool_post_hashes"], inputs["pool_author_hashes"])
        return self.user(inputs), pool, self.log_temperature.exp()

    def user(self, inputs: Tensors) -> Tensor:
        """Place viewers by what they did.

        Args:
            inputs: as `features.history_inputs` gives them.

        Returns:
            [B, D] of length 1.
        """
        if self.config.packed:
            inputs = pack(inputs)
        embeddings = {
            "user": self.tables("user", inputs["user_hashes"]),
            "history_post": self.tables("post", inputs["history_post_hashes"]),
            "history_author": self.tables("author", inputs["history_author_hashes"]),
        }
        return self.user_from(inputs, embeddings)[0]

    def user_from(self, inputs: Tensors, embeddings: Tensors) -> tuple[Tensor, Tensor]:
        """As `user`, from embeddings looked up elsewhere; also the length before scaling [B]."""
        tokens, valid = self.tokens(inputs, embeddings)
        layout = make_layout(valid, packed=self.config.packed)
        h = self.transformer(tokens.to(self.dtype), layout).float()
        weight = valid.to(h.dtype)[..., None]
        pooled = (h * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return _unit(pooled), pooled.norm(dim=-1)

    def post(self, post_hashes: Tensor, author_hashes: Tensor) -> Tensor:
        """Place posts. int64 [N, n] twice -> [N, D] of length 1."""
        return self.post_from(
            self.tables("post", post_hashes), self.tables("author", author_hashes)
        )

    def post_from(self, post: Tensor, author: Tensor) -> Tensor:
        """As `post`, from embeddings [..., n, D] looked up elsewhere."""
        ids = torch.cat([post, author], dim=-2).flatten(-2)
        return _unit(self.tower_out(F.silu(self.tower_in(ids))))


def _unit(x: Tensor) -> Tensor:
    return x / x.square().sum(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()

"""Two towers: a viewer and every post in one space, compared by inner product.

Axes: B viewers, N posts, S history slots, n hashes of one id, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from configs import Config
from pipelines.features import FeatureSpec
from train.models.layers import Linear, Transformer, TransformerConfig
from train.models.layout import make_layout
from train.models.prefix import PrefixConfig
from train.models.prefix_features import PrefixFeatures
from train.models.tokens import HashTables, HistoryTokens, PostFacts, Tensors, pack


class RetrievalConfig(Config):
    """Shape of both towers."""

    emb_size: PositiveInt = 64  # D
    transformer: TransformerConfig = TransformerConfig()
    features: FeatureSpec = FeatureSpec()
    compute_dtype: Literal["float32", "bfloat16"] = "float32"  # the transformer's
    packed: bool = False  # padding is computed only where tokens look at each other
    temperature: float = Field(default=0.1, gt=0)  # where the learned temperature starts
    # How a viewer's tokens become one vector: their mean, as published, or the newest one, which
    # follows what the viewer does next more closely.
    pooling: Literal["mean", "last"] = "mean"
    post_context: bool = False  # the post tower reads a post's topics and length
    # What the towers make of posts' text (features.content_size). "beside": both read it beside
    # all else. "projected": a linear map of it is all there is, for a viewer of the mean over
    # liked posts. "frozen": the same without the maps, so that nothing is learned.
    text: Literal["beside", "projected", "frozen"] = "beside"
    # A head that vectors of text go through first; see learning.prefix, which fills this in.
    prefix: PrefixConfig | None = None

    @model_validator(mode="after")
    def _has_text(self) -> RetrievalConfig:
        size = self.features.content_size
        if self.text != "beside" and not size:
            raise ValueError(f"text is {self.text!r}, which needs features.content_size")
        if self.prefix is not None and self.prefix.input_size != size:
            raise ValueError(
                f"prefix: its head reads vectors of {self.prefix.input_size} numbers, and "
                f"features.content_size is {size}"
            )
        if self.text == "frozen" and (self.prefix is not None or self.emb_size != size):
            raise ValueError(
                f"emb_size must be features.content_size, {size}, and prefix null, where text is "
                "frozen"
            )
        if not self.features.ids and not (size or self.features.num_code_levels):
            raise ValueError("features.ids is false, and there is no content_size to go by")
        return self

    @property
    def content_size(self) -> int:
        """Numbers of a text that the towers see."""
        return self.prefix.size if self.prefix else self.features.content_size

    @property
    def post_features(self) -> FeatureSpec:
        """What the post tower reads."""
        return self.features.model_copy(update={"context": self.post_context})


class TwoTower(nn.Module):
    """The user tower is the ranker's transformer without candidates, pooled."""

    def __init__(self, config: RetrievalConfig) -> None:
        super().__init__()
        if config.text != "beside":
            raise ValueError(f"text: {config.text!r} is learned with learning.kind retrieval only")
        self.config = config
        spec, D = config.features, config.emb_size
        seen = {"content_size": config.content_size}
        if config.prefix:
            self.prefix = PrefixFeatures(config.prefix)
        self.tables = HashTables(spec, D, kinds=("user", "post", "author"))
        self.dtype = getattr(torch, config.compute_dtype)
        self.tokens = HistoryTokens(spec.model_copy(update=seen), D, self.dtype)
        self.transformer = Transformer(D, config.transformer)
        num_ids = spec.num_post_hashes + spec.num_author_hashes
        self.tower_in = Linear(num_ids * D, 2 * D, variance=1 / (2 * D))
        post = config.post_features
        if post.context or post.content_size or post.num_code_levels:
            self.post_facts = PostFacts(post.model_copy(update=seen), 2 * D)
        self.tower_out = Linear(2 * D, D, variance=1 / D)
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(
        self, inputs: Tensors, along: bool = False, rows_at_once: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Viewers and a pool of posts in one pass, for training.

        Args:
            inputs: as for `user` and for `posts`.
            along: place viewers at every point of their history, not only at its end.
            rows_at_once: as `users_along`.

        Returns:
            Viewers [B, D] or as `users_along`, posts [N, D], the temperature (a scalar).
        """
        users = self.users_along(inputs, rows_at_once) if along else self.user(inputs)
        return users, self.posts(inputs), self.log_temperature.exp()

    def user(self, inputs: Tensors) -> Tensor:
        """Place viewers by what they did.

        Args:
            inputs: as `features.history_inputs` gives them.

        Returns:
            [B, D] of length 1.
        """
        return self.user_from(*self._looked_up(inputs))[0]

    def user_from(self, inputs: Tensors, embeddings: Tensors) -> tuple[Tensor, Tensor]:
        """As `user`, from embeddings looked up elsewhere; also the length before scaling [B]."""
        h, valid = self._mixed(inputs, embeddings)
        if self.config.pooling == "mean":
            weight = valid.to(h.dtype)[..., None]
            pooled = (h * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        else:
            newest = (torch.arange(valid.shape[1], device=h.device) * valid).amax(dim=1)
            pooled = h[torch.arange(len(h), device=h.device), newest]
        return unit(pooled), pooled.norm(dim=-1)

    def users_along(self, inputs: Tensors, rows_at_once: int | None = None) -> Tensor:
        """Place viewers before their first event and after each: the tower is causal.

        Row s is what `user` gives of a history cut after s events, if nothing in it is relative to
        the moment of asking (FeatureSpec.since).

        Args:
            inputs: as for `user`.
            rows_at_once: viewers whose histories are padded to one length together; None = all.
                Few save padding where neighbours are about equally long, many save calls.

        Returns:
            [B, 1 + S, D] of length 1; rows after the end of a history mean nothing.
        """
        B, S = inputs["history_post_hashes"].shape[:2]
        mine = {n: v for n, v in inputs.items() if n.startswith(("user_", "history_"))}
        length = (mine["history_post_hashes"][..., 0] != 0).sum(dim=1)
        groups = []
        for start in range(0, B, rows_at_once or B):
            rows = slice(start, start + (rows_at_once or B))
            longest = max(1, int(length[rows].max()))
            part = {
                n: v[rows, :longest] if n.startswith("history_") else v[rows]
                for n, v in mine.items()
            }
            h, valid = self._mixed(*self._looked_up(part))
            if self.config.pooling == "mean":
                weight = valid.to(h.dtype)[..., None]
                h = (h * weight).cumsum(dim=1) / weight.cumsum(dim=1).clamp(min=1)
            groups.append(F.pad(unit(h[:, -1 - longest :]), (0, 0, 0, S - longest)))
        return torch.cat(groups)

    def _looked_up(self, inputs: Tensors) -> tuple[Tensors, Tensors]:
        """The inputs, packed if the model is, and the embeddings of their ids."""
        if self.config.prefix:
            inputs = self.prefix(inputs)
        if self.config.packed:
            inputs = pack(inputs)
        return inputs, {
            "user": self.tables("user", inputs["user_hashes"]),
            "history_post": self.tables("post", inputs["history_post_hashes"]),
            "history_author": self.tables("author", inputs["history_author_hashes"]),
        }

    def _mixed(self, inputs: Tensors, embeddings: Tensors) -> tuple[Tensor, Tensor]:
        """The viewer's tokens after the transformer, float32 [B, T, D], and their validity."""
        tokens, valid = self.tokens(inputs, embeddings)
        layout = make_layout(valid, packed=self.config.packed)
        return self.transformer(tokens.to(self.dtype), layout).float(), valid

    def posts(self, inputs: Tensors) -> Tensor:
        """Place posts by all that is known of them.

        Args:
            inputs: as `features.post_inputs` gives them for `config.post_features`.

        Returns:
            [N, D] of length 1.
        """
        post, author = (
            self.tables(kind, inputs[f"pool_{kind}_hashes"]) for kind in ("post", "author")
        )
        return self.post_from(post, author, inputs)

    def post(self, post_hashes: Tensor, author_hashes: Tensor) -> Tensor:
        """Place posts by their ids alone. int64 [N, n] twice -> [N, D] of length 1."""
        return self.post_from(
            self.tables("post", post_hashes), self.tables("author", author_hashes)
        )

    def post_from(self, post: Tensor, author: Tensor, inputs: Tensors | None = None) -> Tensor:
        """As `posts`, from embeddings [..., n, D] looked up elsewhere."""
        hidden = self.tower_in(torch.cat([post, author], dim=-2).flatten(-2))
        if inputs is not None and hasattr(self, "post_facts"):
            seen = self.prefix(inputs) if self.config.prefix else inputs
            hidden = hidden + self.post_facts("pool", seen)
        return unit(self.tower_out(F.silu(hidden)))


def unit(x: Tensor) -> Tensor:
    """Scale the last axis to length 1; zeros stay zeros. Same shape."""
    return x / x.square().sum(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()

"""Heads over a frozen text encoder whose vectors can be cut: short = coarse topic, long = fine.

`SharedBlockHead` is that of the "fractal embeddings" V5 (dl1683/ai-moonshots, February 2026).
`SeparatedHead` is our own: a part of the vector per level, each of fixed length, so that cutting
a stored vector is exact.

Axes: N texts, E width of the encoder, J blocks, D width of the whole vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from configs import Config
from train.models.recursion import Recursion, applied


class PrefixConfig(Config):
    """The shape of a head."""

    kind: Literal["shared", "separated"] = "separated"
    input_size: PositiveInt = 384  # of the encoder
    block_sizes: tuple[PositiveInt, ...] = Field(default=(64, 64, 64, 64), min_length=1)
    num_classes: tuple[PositiveInt, ...] = ()  # of each classifier, for training alone
    dropout: float = Field(default=0.1, ge=0, lt=1)
    num_heads: PositiveInt = 8  # of the shared block's attention
    # Of separated parts, coarse to fine: how many blocks each has, and its weight in the cosine
    # of whole vectors.
    blocks_per_part: tuple[PositiveInt, ...] = Field(default=(1, 3), min_length=1)
    part_weights: tuple[PositiveFloat, ...] = Field(default=(1.0, 1.0), min_length=1)
    hidden_size: PositiveInt = 512  # of the separated head's trunk

    @property
    def size(self) -> int:
        """D."""
        return sum(self.block_sizes)

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Width of each separated part."""
        ends = [0, *accumulate(self.blocks_per_part)]
        return tuple(sum(self.block_sizes[a:b]) for a, b in pairwise(ends))

    @model_validator(mode="after")
    def _fits(self) -> PrefixConfig:
        if self.kind == "shared":
            if self.input_size % self.num_heads:
                raise ValueError(f"num_heads {self.num_heads} do not divide {self.input_size}")
        elif sum(self.blocks_per_part) != len(self.block_sizes):
            raise ValueError(
                f"blocks_per_part {self.blocks_per_part} are not the {len(self.block_sizes)} blocks"
            )
        elif len(self.part_weights) != len(self.blocks_per_part):
            raise ValueError("part_weights: one for each of blocks_per_part")
        return self


def truncate(vectors: Tensor, block_sizes: Sequence[int], num_blocks: int) -> Tensor:
    """The first blocks of stored vectors, at length 1; whole vectors are given back as they are.

    Args:
        vectors: [N, D], as a head's `embed` gives them.
        block_sizes: of the head.
        num_blocks: 1 to J.

    Returns:
        [N, width of those blocks]. Of a `SeparatedHead` the same, bit for bit, as its `prefix`;
        of a `SharedBlockHead` not: its whole vectors are layer-normalised, its prefixes are not.
    """
    if not 1 <= num_blocks <= len(block_sizes):
        raise ValueError(f"num_blocks: {num_blocks}, expected 1 to {len(block_sizes)}")
    if num_blocks == len(block_sizes):
        return vectors
    return F.normalize(vectors[:, : sum(block_sizes[:num_blocks])], dim=-1)


def dropped(x: Tensor, p: float) -> Tensor:
    """Inverted dropout whose probability is right to 2^-16.

    A mask of 16 random bits an entry, compared by numpy, takes a fifth of torch's time on a CPU.
    """
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
    short, threshold = bits.random_(-(2**63), None).view(torch.int16), round(p * 2**16) - 2**15
    if x.device.type == "cpu":
        keep = torch.from_numpy((short.numpy() >= threshold).astype(np.float32))
    else:
        keep = (short >= threshold).to(x.dtype)
    return x * keep[: x.numel()].view(x.shape).mul_(1 / (1 - p))


class SharedBlockHead(nn.Module):
    """V5's head: one transformer block applied J times to a text's vector, a block a time.

    Attention over a sequence of one token always weighs it 1, so that its query and key maps
    never matter; they are kept for the number of parameters and are not computed.
    """

    def __init__(self, config: PrefixConfig) -> None:
        super().__init__()
        self.config, size = config, config.input_size
        self.input = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size)
        self.query_key = nn.Linear(size, 2 * size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)
        self.ffn_norm = nn.LayerNorm(size)
        self.up = nn.Linear(size, 4 * size)
        self.down = nn.Linear(4 * size, size)
        self.blocks_out = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width))
            for width in config.block_sizes
        )
        self.norm = nn.LayerNorm(config.size)
        self.classifiers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(config.size), nn.Linear(config.size, num))
            for num in config.num_classes
        )
        bound = math.sqrt(6 / (4 * size))  # torch's attention draws its three maps as one
        for linear in (self.query_key, self.value):
            nn.init.uniform_(linear.weight, -bound, bound)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.output.bias)

    def blocks(self, features: Tensor) -> Tensor:
        """All blocks side by side, as they are before any norm. [N, E] -> [N, D]."""
        first, config = self.input(features), self.config
        shares = [0.1 / (1 + 0.3 * at) for at in range(len(config.block_sizes))]
        weights = [w for layer in self._layers for w in (layer.weight, layer.bias)]
        made: Sequence[Tensor]
        if self.training:
            one, shape = first.new_ones(()), (len(shares), len(first))
            heads = dropped(one.expand(*shape, config.num_heads), config.dropout)
            inner = dropped(one.expand(*shape, len(self.up.weight)), config.dropout)
            made = Recursion.apply(first, shares, heads, inner, *weights).unbind()
        else:
            made = applied(first, shares, weights)
        return torch.cat([out(x) for out, x in zip(self.blocks_out, made, strict=True)], dim=1)

    @property
    def _layers(self) -> tuple[nn.LayerNorm | nn.Linear, ...]:
        attention = (self.attention_norm, self.value, self.output)
        return (*attention, self.ffn_norm, self.up, self.down)

    def whole(self, blocks: Tensor) -> Tensor:
        """Whole vectors of `blocks`: layer-normalised, then of length 1. [N, D] -> [N, D]."""
        return F.normalize(self.norm(blocks), dim=-1)

    def embed(self, features: Tensor) -> Tensor:
        """Whole vectors of length 1. [N, E] -> [N, D]."""
        return self.whole(self.blocks(features))

    def prefix(self, features: Tensor, num_blocks: int) -> Tensor:
        """The first blocks, without the layer norm, at length 1; all J = `embed`."""
        if num_blocks == len(self.config.block_sizes):
            return self.embed(features)
        return truncate(self.blocks(features), self.config.block_sizes, num_blocks)


class SeparatedHead(nn.Module):
    """A trunk, and for each level a projector of its own; each part has one fixed length.

    All but the first part add to their projection a linear view of the encoder's vector: what no
    label asks for stays, so that unknown fine classes stay apart. The length of the encoder's
    vector does not matter.
    """

    def __init__(self, config: PrefixConfig) -> None:
        super().__init__()
        self.config = config
        size, hidden = config.input_size, config.hidden_size
        self.trunk = nn.ModuleList(
            nn.Sequential(nn.Linear(num_in, hidden), nn.LayerNorm(hidden))
            for num_in in (size, hidden)
        )
        self.parts = nn.ModuleList(nn.Linear(hidden, width) for width in config.part_sizes)
        self.views = nn.ModuleList(
            nn.Linear(size, width, bias=False) for width in config.part_sizes[1:]
        )
        self.centres = nn.ParameterList(  # of the classes of each part that has labels
            nn.Parameter(torch.randn(num, width))
            for num, width in zip(config.num_classes, config.part_sizes, strict=False)
        )
        total = sum(config.part_weights)
        self.scales = [math.sqrt(weight / total) for weight in config.part_weights]

    @torch.no_grad()
    def start_from(self, features: Tensor) -> None:
        """Let the views keep of `features` [N, E] what most of their inner products rest on."""
        x = F.normalize(features, dim=-1)
        _, directions = torch.linalg.eigh((x.T @ x).double())
        for view in self.views:
            kept: Tensor = view.weight  # type: ignore[assignment]
            width = min(len(kept), len(directions))
            kept.zero_()
            kept[:width] = directions.flip(1)[:, :width].T.to(kept)

    def split(self, features: Tensor) -> list[Tensor]:
        """Parts of length 1, coarse to fine: [N, width] each."""
        x = F.normalize(features, dim=-1)
        h = x * math.sqrt(self.config.input_size)
        for layer in self.trunk:
            h = F.gelu(layer(h))
            if self.training and self.config.dropout:
                h = dropped(h, self.config.dropout)
        made = [part(h) for part in self.parts]
        seen = [made[0], *(m + v(x) for m, v in zip(made[1:], self.views, strict=True))]
        return [F.normalize(part, dim=-1) for part in seen]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Whole vectors of length 1 whose cosine is the weighted mean of the parts'."""
        return torch.cat([p * s for p, s in zip(parts, self.scales, strict=True)], dim=1)

    def embed(self, features: Tensor) -> Tensor:
        """Whole vectors of length 1. [N, E] -> [N, D]."""
        return self.join(self.split(features))

    def prefix(self, features: Tensor, num_blocks: int) -> Tensor:
        """`truncate` of `embed`."""
        return truncate(self.embed(features), self.config.block_sizes, num_blocks)


Head = SharedBlockHead | SeparatedHead


def make_head(config: PrefixConfig) -> Head:
    """The head that `config` describes, untrained."""
    return SharedBlockHead(config) if config.kind == "shared" else SeparatedHead(config)

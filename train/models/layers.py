"""The Phoenix transformer: causal history, isolated candidates, sandwich norms.

Axes: B batch, T tokens, S tokens of the context, C candidates, N tokens of a whole batch that are
no padding, D model width, H query heads, K key/value heads, d head size. Formulas are those of
xAI's public release of January 2026; matrices have no biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from configs import Config
from train.models.layout import Layout, Place, rope
from train.models.packing import Packing

KeyValue = tuple[Tensor, Tensor]  # after RoPE, [B, K, T, d] each

_MASKED = -1e30  # finite, so that a row with no permitted key becomes uniform, not NaN
_LOGIT_CAP = 30.0
# A normal truncated at two sigma has this standard deviation.
_TRUNCATED_STD = 0.87962566


class TransformerConfig(Config):
    """Shape of the transformer shared by the ranker and the user tower."""

    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 2  # query heads, H
    num_kv_heads: PositiveInt = 2  # key/value heads, K; each serves H / K query heads
    key_size: int = Field(default=32, ge=2, multiple_of=2)  # per head, d; RoPE pairs dimensions
    widening_factor: float = Field(default=2.0, gt=0)  # of the feed-forward block
    attn_multiplier: float = Field(default=0.125, gt=0)  # stands where 1 / sqrt(d) usually does
    qk_norm: bool = False  # queries and keys are normalised per head, as in the public flagship
    dropout: float = Field(default=0.0, ge=0, lt=1)  # of tokens and of what each block adds

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        return self


def ffn_width(emb_size: int, widening_factor: float) -> int:
    """Hidden width of the gated block: 2/3 of the widened size, rounded up to 8."""
    width = int(widening_factor * emb_size) * 2 // 3
    return width + (8 - width) % 8


def init_normal_(weight: Tensor, variance: float) -> None:
    """Fill `weight` from a normal truncated at two sigma that has this variance."""
    sigma = variance**0.5 / _TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)


class Linear(nn.Linear):
    """A bias-free map that works in its input's dtype; weights stay float32."""

    def __init__(self, num_in: int, num_out: int, variance: float | None = None) -> None:
        """Initialised with `variance`, or Glorot's 2 / (in + out)."""
        super().__init__(num_in, num_out, bias=False)
        init_normal_(self.weight, 2 / (num_in + num_out) if variance is None else variance)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """g · x / sqrt(mean(x²) + 1e-5), computed in float32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis. [..., D] -> [..., D], same dtype."""
        wide = x.float()
        rms = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + 1e-5)
        return (wide * rms * self.scale.float()).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with RoPE and a soft cap on the logits."""

    def __init__(self, emb_size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Linear(emb_size, config.num_heads * config.key_size)
        self.key = Linear(emb_size, config.num_kv_heads * config.key_size)
        self.value = Linear(emb_size, config.num_kv_heads * config.key_size)
        self.output = Linear(config.num_heads * config.key_size, emb_size)
        if config.qk_norm:
            self.query_norm = RMSNorm(config.key_size)
            self.key_norm = RMSNorm(config.key_size)

    def key_value(self, x: Tensor, place: Place) -> KeyValue:
        """What others see of tokens [B, T, D], or packed [N, D]: two of [B, K, T, d]."""
        key = self._heads(self.key, x)
        if self.config.qk_norm:
            key = self.key_norm(key)
        key, value = rope(key, place.angles), self._heads(self.value, x)
        return place.unpack(key).transpose(1, 2), place.unpack(value).transpose(1, 2)

    def forward(self, x: Tensor, place: Place, own: KeyValue, allowed: Tensor) -> Tensor:
        """Mix tokens of one sequence.

        Args:
            x: [B, T, D], or packed [N, D].
            place: where they stand.
            own: as `key_value` gives it of them.
            allowed: who may look at whom, bool [B, T, T].

        Returns:
            As `x`.
        """
        query, (key, value) = self._query(x, place), own
        scores = self._capped(_by_key_head(query, key.transpose(-1, -2)))
        scores = scores.masked_fill(~allowed[:, None, None], _MASKED)
        weight = F.softmax(scores, dim=-1).to(x.dtype)
        return self._mixed(_by_key_head(weight, value), place)

    def beside(
        self, x: Tensor, place: Place, own: KeyValue, context: KeyValue, seen: Tensor
    ) -> Tensor:
        """Mix tokens that see a context and of each other only themselves.

        Args:
            x: [B, C, D], or packed [N, D].
            place: where they stand.
            own: as `key_value` gives it of them.
            context: as `key_value` gave it of the context's S tokens.
            seen: which of the context's tokens there are, bool [B, S].

        Returns:
            As `x`.
        """
        query, (key, value) = self._query(x, place), own
        S = seen.shape[1]
        scores = self._capped(_by_key_head(query, context[0].transpose(-1, -2)))
        scores = scores.masked_fill(~seen[:, None, None, None], _MASKED)
        itself = self._capped((query * key[:, :, None]).sum(dim=-1, keepdim=True))
        weight = F.softmax(torch.cat([scores, itself], dim=-1), dim=-1).to(x.dtype)
        mixed = _by_key_head(weight[..., :S], context[1]) + weight[..., S:] * value[:, :, None]
        return self._mixed(mixed, place)

    def _query(self, x: Tensor, place: Place) -> Tensor:
        """[B, K, H / K, T, d]: query head h reads key/value head h // (H / K)."""
        query = self._heads(self.query, x)
        if self.config.qk_norm:
            query = self.query_norm(query)
        query = place.unpack(rope(query, place.angles)).transpose(1, 2)
        return query.unflatten(1, (self.config.num_kv_heads, -1))

    def _mixed(self, heads: Tensor, place: Place) -> Tensor:
        """[B, K, H / K, T, d] -> [B, T, D], or packed."""
        return self.output(place.pack(heads.flatten(1, 2).transpose(1, 2).flatten(2)))

    def _heads(self, project: nn.Module, x: Tensor) -> Tensor:
        """[..., D] -> [..., heads, d]."""
        return project(x).unflatten(-1, (-1, self.config.key_size))

    def _capped(self, products: Tensor) -> Tensor:
        """Scaled and softly capped, in float32."""
        scaled = products.float() * self.config.attn_multiplier
        return _LOGIT_CAP * torch.tanh(scaled / _LOGIT_CAP)


def _by_key_head(x: Tensor, of_keys: Tensor) -> Tensor:
    """Products of [B, K, H / K, T, n] and [B, K, n, m], without a copy for each query head."""
    return (x.flatten(2, 3) @ of_keys).unflatten(2, x.shape[2:4])


class GeGLU(nn.Module):
    """(gelu(x W_gate) * (x W_up)) W_down with the tanh form of gelu."""

    def __init__(self, emb_size: int, widening_factor: float) -> None:
        super().__init__()
        width = ffn_width(emb_size, widening_factor)
        self.gate = Linear(emb_size, width)
        self.up = Linear(emb_size, width)
        self.down = Linear(width, emb_size)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class DecoderLayer(nn.Module):
    """h + norm(attention(norm(h))), then h + norm(ffn(norm(h)))."""

    def __init__(self, emb_size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = Attention(emb_size, config)
        self.ffn = GeGLU(emb_size, config.widening_factor)
        self.norms = nn.ModuleList(RMSNorm(emb_size) for _ in range(4))
        self.dropout = nn.Dropout(config.dropout)

    def key_value(self, h: Tensor, place: Place) -> KeyValue:
        """What candidates see of tokens at this layer; see `Attention.key_value`."""
        return self.attention.key_value(self.norms[0](h), place)

    def forward(self, h: Tensor, place: Place, allowed: Tensor) -> tuple[Tensor, KeyValue]:
        """As `Attention.forward`; also what others see of the tokens."""
        x = self.norms[0](h)
        own = self.attention.key_value(x, place)
        return self._added(h, self.attention(x, place, own, allowed)), own

    def beside(
        self, h: Tensor, place: Place, context: KeyValue, seen: Tensor
    ) -> tuple[Tensor, KeyValue]:
        """As `Attention.beside`; also what others would see of the tokens."""
        x = self.norms[0](h)
        own = self.attention.key_value(x, place)
        return self._added(h, self.attention.beside(x, place, own, context, seen)), own

    def _added(self, h: Tensor, attended: Tensor) -> Tensor:
        _, after_attention, before_ffn, after_ffn = self.norms
        h = h + self.dropout(after_attention(attended))
        return h + self.dropout(after_ffn(self.ffn(before_ffn(h))))


class Transformer(nn.Module):
    """A stack of decoder layers; no final norm."""

    def __init__(self, emb_size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.key_size = config.key_size
        self.dropout = nn.Dropout(config.dropout)
        layers = nn.ModuleList(DecoderLayer(emb_size, config) for _ in range(config.num_layers))
        self.layers = cast("Sequence[DecoderLayer]", layers)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Mix tokens. [B, T, D] -> [B, T, D], same dtype; rows of padding mean nothing."""
        x, place = self._start(x, layout.position, layout.packing)
        for layer in self.layers:
            x, _ = layer(x, place, layout.allowed)
        return place.unpack(x)

    def context(self, x: Tensor, layout: Layout) -> tuple[KeyValue, ...]:
        """What candidates see of the same tokens at each layer; the last mixes nothing more."""
        x, place = self._start(x, layout.position, layout.packing)
        made = []
        for layer in self.layers[:-1]:
            x, own = layer(x, place, layout.allowed)
            made.append(own)
        return (*made, self.layers[-1].key_value(x, place))

    def beside(
        self,
        x: Tensor,
        position: Tensor,
        context: Sequence[KeyValue],
        seen: Tensor,
        packing: Packing | None = None,
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        """Mix tokens that see a context and of each other only themselves.

        Args:
            x: [B, C, D].
            position: where they stand, int64 [B, C].
            context: as `context` gave it.
            seen: which of the context's tokens there are, bool [B, S].
            packing: as of `Layout`.

        Returns:
            The tokens, [B, C, D]; and of them what `context` would give if they belonged to it.
        """
        x, place = self._start(x, position, packing)
        made = []
        for layer, of_layer in zip(self.layers, context, strict=True):
            x, own = layer.beside(x, place, of_layer, seen)
            made.append(own)
        return place.unpack(x), tuple(made)

    def _start(self, x: Tensor, position: Tensor, packing: Packing | None) -> tuple[Tensor, Place]:
        place = Place.of(position, self.key_size, packing)
        return self.dropout(place.pack(x)), place

"""The Phoenix transformer: causal history, isolated candidates, sandwich norms.

Axes: B batch, T tokens, S tokens of the context, N tokens of a whole batch that are no padding,
D model width, H query heads, K key/value heads, d head size. Formulas are those of xAI's public
release of January 2026; matrices have no biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from configs import Config
from train.models.packing import Packing

_MASKED = -1e30  # finite, so that a row with no permitted key becomes uniform, not NaN
_LOGIT_CAP = 30.0
_ROPE_BASE = 10_000.0
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


@dataclass(frozen=True)
class Layout:
    """Where tokens stand and who may look at whom.

    The first S tokens are the context; those after it are candidates, which look at the
    context and at themselves. With S = T there are none, and `allowed` says everything.

    Attributes:
        position: int64 [B, T], for RoPE, which sees differences only.
        allowed: bool [B, S, S], row = the context token that looks.
        seen: bool [B, S], what candidates look at.
        packing: keeps padding out of everything but the attention product; None = does not.
    """

    position: Tensor
    allowed: Tensor
    seen: Tensor
    packing: Packing | None = None


def attention_mask(num_tokens: int, candidate_start: int | None = None) -> Tensor:
    """Who may look at whom: causal, and candidates never see each other.

    Args:
        num_tokens: T.
        candidate_start: slot of the first candidate; None = there are none.

    Returns:
        bool [T, T], row = the token that looks.
    """
    allowed = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()
    if candidate_start is not None:
        num_candidates = num_tokens - candidate_start
        allowed[candidate_start:, candidate_start:] = torch.eye(num_candidates, dtype=torch.bool)
    return allowed


def make_layout(
    valid: Tensor,
    candidate_start: int | None = None,
    anchored: bool = True,
    split: bool = True,
    packed: bool = False,
) -> Layout:
    """The layout of padded sequences, [context | candidates].

    Args:
        valid: bool [B, T]; padding is never looked at. Its own outputs mean nothing.
        candidate_start: slot of the first candidate, None = there are none.
        anchored: the newest valid token of every context stands at -1 and all candidates at
            0; otherwise each token in its own slot, so that a score depends on the order of
            the candidates.
        split: candidates are handled apart, at a cost that grows with their number and not
            its square; otherwise through one mask over all tokens, the reference.
        packed: padding is left out of what is computed token by token; outputs of padding
            are then 0, all others the same.
    """
    num_tokens = valid.shape[1]
    start = num_tokens if candidate_start is None else candidate_start
    slot = torch.arange(num_tokens, device=valid.device)
    position = slot.expand_as(valid)
    if anchored and candidate_start is not None:
        newest = (slot[:start] * valid[:, :start]).amax(dim=1, keepdim=True)
        position = torch.where(slot < start, slot - newest - 1, 0)
    num_masked = start if split else num_tokens
    mask = attention_mask(num_masked, None if split else candidate_start).to(valid.device)
    seen = valid[:, :num_masked]
    packing = Packing.of(valid) if packed else None
    return Layout(position, mask & seen[:, None, :], seen, packing)


def ffn_width(emb_size: int, widening_factor: float) -> int:
    """Hidden width of the gated block: 2/3 of the widened size, rounded up to 8."""
    width = int(widening_factor * emb_size) * 2 // 3
    return width + (8 - width) % 8


def rope_angles(position: Tensor, key_size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each pair's angle at each position.

    Args:
        position: [B, T].
        key_size: d.

    Returns:
        float32 [B, T, 1, d] each, the halves equal.
    """
    half = key_size // 2
    exponent = torch.arange(half, device=position.device, dtype=torch.float32) / half
    phase = position.to(torch.float32)[..., None] * _ROPE_BASE**-exponent  # [B, T, d/2]
    phase = torch.cat([phase, phase], dim=-1)[:, :, None, :]
    return phase.cos(), phase.sin()


def rope(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each head's halves by an angle that grows with the token's position.

    Args:
        x: [B, T, heads, d].
        angles: as `rope_angles` gives them.
    """
    cos, sin = angles
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + turned * sin).to(x.dtype)


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

    def forward(self, x: Tensor, layout: Layout, angles: tuple[Tensor, Tensor]) -> Tensor:
        """[B, T, D], or packed [N, D] -> the same; `angles` are those of the tokens' positions."""
        c = self.config
        query, key, value = (
            project(x).unflatten(-1, (-1, c.key_size))  # [B, T, heads, d] or [N, heads, d]
            for project in (self.query, self.key, self.value)
        )
        if c.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = rope(query, angles), rope(key, angles)
        if layout.packing is not None:
            query, key, value = map(layout.packing.unpack, (query, key, value))
        group = c.num_heads // c.num_kv_heads  # query head h reads key/value head h // group
        key, value = (t.repeat_interleave(group, dim=2).transpose(1, 2) for t in (key, value))
        query = query.transpose(1, 2)
        S, T = layout.seen.shape[1], query.shape[2]
        before_key, before_value = key[:, :, :S], value[:, :, :S]
        scores = self._scores(query[:, :, :S] @ before_key.transpose(-1, -2))
        scores = scores.masked_fill(~layout.allowed[:, None], _MASKED)
        mixed = F.softmax(scores, dim=-1).to(x.dtype) @ before_value
        if T > S:  # candidates: the context, and of each other only themselves
            query, key, value = query[:, :, S:], key[:, :, S:], value[:, :, S:]
            scores = self._scores(query @ before_key.transpose(-1, -2))
            scores = scores.masked_fill(~layout.seen[:, None, None], _MASKED)
            own = self._scores((query * key).sum(dim=-1, keepdim=True))
            weight = F.softmax(torch.cat([scores, own], dim=-1), dim=-1).to(x.dtype)
            candidates = weight[..., :S] @ before_value + weight[..., S:] * value
            mixed = torch.cat([mixed, candidates], dim=2)
        mixed = mixed.transpose(1, 2).flatten(2)
        return self.output(mixed if layout.packing is None else layout.packing.pack(mixed))

    def _scores(self, products: Tensor) -> Tensor:
        """Scaled and softly capped, in float32."""
        scaled = products.float() * self.config.attn_multiplier
        return _LOGIT_CAP * torch.tanh(scaled / _LOGIT_CAP)


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

    def forward(self, h: Tensor, layout: Layout, angles: tuple[Tensor, Tensor]) -> Tensor:
        """[B, T, D], or packed [N, D] -> the same."""
        before_attn, after_attn, before_ffn, after_ffn = self.norms
        h = h + self.dropout(after_attn(self.attention(before_attn(h), layout, angles)))
        return h + self.dropout(after_ffn(self.ffn(before_ffn(h))))


class Transformer(nn.Module):
    """A stack of decoder layers; no final norm."""

    def __init__(self, emb_size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.key_size = config.key_size
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(emb_size, config) for _ in range(config.num_layers)
        )

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Mix tokens. [B, T, D] -> [B, T, D], same dtype; rows of padding mean nothing."""
        angles, packing = rope_angles(layout.position, self.key_size), layout.packing
        if packing is not None:
            x, angles = packing.pack(x), (packing.pack(angles[0]), packing.pack(angles[1]))
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, layout, angles)
        return x if packing is None else packing.unpack(x)

"""The Phoenix transformer: causal history, isolated candidates, sandwich norms.

Axes: B batch, T tokens, D model width, H query heads, K key/value heads, d head
size. Formulas are those of xAI's public release of January 2026; matrices have
no biases.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from configs import Config

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


def rope(x: Tensor, position: Tensor) -> Tensor:
    """Rotate each head's halves by an angle that grows with the token's position.

    Args:
        x: [B, T, heads, d].
        position: [T].
    """
    half = x.shape[-1] // 2
    exponent = torch.arange(half, device=x.device, dtype=torch.float32) / half
    phase = position.to(torch.float32)[:, None] * _ROPE_BASE**-exponent  # [T, d/2]
    phase = torch.cat([phase, phase], dim=-1)[:, None, :]
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * phase.cos() + turned * phase.sin()).to(x.dtype)


def init_normal_(weight: Tensor, variance: float) -> None:
    """Fill `weight` from a normal truncated at two sigma that has this variance."""
    sigma = variance**0.5 / _TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)


def linear(num_in: int, num_out: int, variance: float | None = None) -> nn.Linear:
    """A bias-free map, initialised with `variance`, or Glorot's 2 / (in + out)."""
    layer = nn.Linear(num_in, num_out, bias=False)
    init_normal_(layer.weight, 2 / (num_in + num_out) if variance is None else variance)
    return layer


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
        self.query = linear(emb_size, config.num_heads * config.key_size)
        self.key = linear(emb_size, config.num_kv_heads * config.key_size)
        self.value = linear(emb_size, config.num_kv_heads * config.key_size)
        self.output = linear(config.num_heads * config.key_size, emb_size)

    def forward(self, x: Tensor, allowed: Tensor, position: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]; `allowed` is bool [B, T, T], `position` [T]."""
        B, T, _ = x.shape
        c = self.config
        query = rope(self.query(x).view(B, T, c.num_heads, c.key_size), position)
        key = rope(self.key(x).view(B, T, c.num_kv_heads, c.key_size), position)
        value = self.value(x).view(B, T, c.num_kv_heads, c.key_size)
        group = c.num_heads // c.num_kv_heads  # query head h reads key/value head h // group
        key, value = (t.repeat_interleave(group, dim=2).transpose(1, 2) for t in (key, value))
        scores = (query.transpose(1, 2) @ key.transpose(-1, -2)).float() * c.attn_multiplier
        scores = _LOGIT_CAP * torch.tanh(scores / _LOGIT_CAP)
        scores = scores.masked_fill(~allowed[:, None], _MASKED)
        mixed = F.softmax(scores, dim=-1).to(x.dtype) @ value
        return self.output(mixed.transpose(1, 2).reshape(B, T, -1))


class GeGLU(nn.Module):
    """(gelu(x W_gate) * (x W_up)) W_down with the tanh form of gelu."""

    def __init__(self, emb_size: int, widening_factor: float) -> None:
        super().__init__()
        width = ffn_width(emb_size, widening_factor)
        self.gate = linear(emb_size, width)
        self.up = linear(emb_size, width)
        self.down = linear(width, emb_size)

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

    def forward(self, h: Tensor, allowed: Tensor, position: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        before_attn, after_attn, before_ffn, after_ffn = self.norms
        h = h + after_attn(self.attention(before_attn(h), allowed, position))
        return h + after_ffn(self.ffn(before_ffn(h)))


class Transformer(nn.Module):
    """A stack of decoder layers over a padded sequence; no final norm."""

    def __init__(self, emb_size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(emb_size, config) for _ in range(config.num_layers)
        )

    def forward(
        self,
        x: Tensor,
        valid: Tensor,
        candidate_start: int | None = None,
        shared_position: bool = True,
    ) -> Tensor:
        """Mix tokens.

        Args:
            x: [B, T, D].
            valid: bool [B, T]; padding is never looked at. Its own outputs mean nothing.
            candidate_start: slot of the first candidate, None = there are none.
            shared_position: every candidate stands right after the history; otherwise each
                in its own slot, so that a score depends on the order of the candidates.

        Returns:
            [B, T, D], same dtype as `x`.
        """
        num_tokens = x.shape[1]
        structure = attention_mask(num_tokens, candidate_start).to(x.device)
        allowed = structure & valid[:, None, :]
        position = torch.arange(num_tokens, device=x.device)
        if candidate_start is not None and shared_position:
            position = position.clamp(max=candidate_start)
        for layer in self.layers:
            x = layer(x, allowed, position)
        return x

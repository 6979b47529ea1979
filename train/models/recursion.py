"""One transformer block applied again and again to single tokens, with a backward pass of its own.

Autograd would make the gradient of each weight once per application and add them up: for small
batches that moves more memory than the model's arithmetic. Here inputs and gradients of all
applications stand in one matrix each, and each weight's gradient is one product.

Axes: J applications, N rows, E width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5  # of both layer norms

_norm = torch.ops.aten.native_layer_norm
_norm_backward = torch.ops.aten.native_layer_norm_backward


def apply_once(
    x: Tensor, weights: Sequence[Tensor], heads: Tensor | None = None, inner: Tensor | None = None
) -> Tensor:
    """The block: x + attention(norm(x)), then x + ffn(norm(x)), for a sequence of one token.

    Args:
        x: [N, E].
        weights: scale and shift of the first norm, weight and bias of the value map, of the
            output map, of the second norm, of the way up and of the way down.
        heads: what dropout multiplies each head's attention by, [N, H]; None = 1.
        inner: the same for the FFN's inner activations, [N, 4E].

    Returns:
        [N, E].
    """
    g1, s1, wv, bv, wo, bo, g2, s2, wu, bu, wd, bd = weights
    value = F.linear(F.layer_norm(x, x.shape[1:], g1, s1, EPS), wv, bv)
    if heads is not None:
        value = value * _per_head(heads, value.shape[1])
    x = x + F.linear(value, wo, bo)
    up = F.gelu(F.linear(F.layer_norm(x, x.shape[1:], g2, s2, EPS), wu, bu))
    return x + F.linear(up if inner is None else up * inner, wd, bd)


def applied(first: Tensor, shares: Sequence[float], weights: Sequence[Tensor]) -> list[Tensor]:
    """What `Recursion` gives without dropout, by autograd: J times [N, E]."""
    made, x = [], first
    for share in shares:
        x = apply_once(x, weights) + share * first
        made.append(x)
    return made


def _per_head(heads: Tensor, size: int) -> Tensor:
    return heads.repeat_interleave(size // heads.shape[-1], dim=-1)


class Recursion(torch.autograd.Function):
    """x_{j+1} = block(x_j) + c_j · first, x_0 = first; gives x_1 … x_J."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        shares: Sequence[float],
        heads: Tensor,
        inner: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        """`heads` [J, N, H] and `inner` [J, N, 4E] as for `apply_once`; `shares` are c.

        Returns:
            [J, N, E].
        """
        g1, s1, wv, bv, wo, bo, g2, s2, wu, bu, wd, bd = weights
        shape = [first.shape[1]]
        heads = _per_head(heads, shape[0])
        out, normed, value, middle, after = (
            first.new_empty(len(shares), *first.shape) for _ in range(5)
        )
        up, act = torch.empty_like(inner), torch.empty_like(inner)
        stats, x = [], first
        for j, share in enumerate(shares):
            normed[j], *of_first = _norm(x, shape, g1, s1, EPS)
            torch.addmm(bv, normed[j], wv.T, out=value[j])
            value[j].mul_(heads[j])
            torch.addmm(bo, value[j], wo.T, out=middle[j])
            middle[j].add_(x)
            after[j], *of_second = _norm(middle[j], shape, g2, s2, EPS)
            torch.addmm(bu, after[j], wu.T, out=up[j])
            torch.mul(F.gelu(up[j]), inner[j], out=act[j])
            torch.addmm(bd, act[j], wd.T, out=out[j])
            out[j].add_(middle[j]).add_(first, alpha=share)
            stats.append((of_first, of_second))
            x = out[j]
        ctx.shares, ctx.stats = shares, stats
        ctx.save_for_backward(
            first, heads, inner, out, normed, value, middle, after, up, act, *weights
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `first` and of the weights."""
        first, heads, inner, out, normed, value, middle, after, up, act, *weights = (
            ctx.saved_tensors
        )
        g1, s1, wv, _, wo, _, g2, s2, wu, _, wd, _ = weights
        shape, all_three = [first.shape[1]], [True] * 3
        d_out, d_first = grad.clone(), torch.zeros_like(first)
        d_middle, d_value, d_up = torch.empty_like(out), torch.empty_like(out), torch.empty_like(up)
        d_norms = [torch.zeros_like(weight) for weight in (g1, s1, g2, s2)]
        for j in reversed(range(len(ctx.shares))):
            of_first, of_second = ctx.stats[j]
            d_first.add_(d_out[j], alpha=ctx.shares[j])
            d_act = torch.mm(d_out[j], wd).mul_(inner[j])
            d_up[j] = torch.ops.aten.gelu_backward(d_act, up[j])
            d_x, *second = _norm_backward(
                torch.mm(d_up[j], wu), middle[j], shape, *of_second, g2, s2, all_three
            )
            torch.add(d_out[j], d_x, out=d_middle[j])
            torch.mm(d_middle[j], wo, out=d_value[j])
            d_value[j].mul_(heads[j])
            x = out[j - 1] if j else first
            d_x, *norm1 = _norm_backward(
                torch.mm(d_value[j], wv), x, shape, *of_first, g1, s1, all_three
            )
            (d_out[j - 1] if j else d_first).add_(d_x).add_(d_middle[j])
            for total, part in zip(d_norms, (*norm1, *second), strict=True):
                total.add_(part)
        d_maps = [
            (d.flatten(0, 1).T @ x.flatten(0, 1), d.sum(dim=(0, 1)))
            for d, x in ((d_value, normed), (d_middle, value), (d_up, after), (d_out, act))
        ]
        value_map, output_map, up_map, down_map = d_maps
        attention = (*d_norms[:2], *value_map, *output_map)
        return (d_first, None, None, None, *attention, *d_norms[2:], *up_map, *down_map)

"""A ranker whose maps and tables are int8: less memory, and products of int8 matrices.

Weights have one scale for each output channel, and one for each row of a table. What goes into a
map has one for each token, found as it comes (Dettmers et al. 2022, LLM.int8()), so that a
candidate's score depends on no other candidate and no other viewer of a batch, as without; what
torch offers as dynamic quantisation has one for a whole batch. It is rounded to int8 twice, the
second time what the first left over: once alone moves scores more than rounded weights do. Products
are summed in int32.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from train.models.ranker import Ranker
from train.models.rounding import STEPS, TINY, to_int8

_FINER = 2 * STEPS  # of the second rounding in one of the first, so that half a step is STEPS
_EXACT = ("unembed",)  # makes the log-odds; what is rounded there goes into values as it is


class QuantisationError(ValueError):
    """A model that cannot be quantised."""


def quantised(ranker: Ranker, maps: bool = True) -> Ranker:
    """The same ranker, weights with two axes int8 but the last map's, for inference on a CPU.

    The last map (`unembed`), norms, and the shift of the log-odds stay float32. Modules have the
    same names; the state dict has "weight" as int8 and beside it "scale", float32, and can be
    loaded by what this makes of any ranker of the same configuration. `ranker` stays as it is.

    Args:
        ranker: in float32.
        maps: False = tables alone. Where D is 64 and nothing is compiled, rounding what goes into a
            map takes longer than an int8 product saves, and tables are most of the bytes.

    Raises:
        QuantisationError: no ranker, or one that is quantised already.
    """
    if not isinstance(ranker, Ranker):
        raise QuantisationError(f"{type(ranker).__name__} is no ranker: only Phoenix is quantised")
    if any(isinstance(module, Int8) for module in ranker.modules()):
        raise QuantisationError("this ranker is quantised already")
    result = copy.deepcopy(ranker).cpu().eval()
    for name, module in list(result.named_modules()):
        if maps and isinstance(module, nn.Linear) and name not in _EXACT:
            result.set_submodule(name, Int8Linear(module.weight))
        elif isinstance(module, nn.Embedding):
            result.set_submodule(name, Int8Embedding(module.weight))
    return result.requires_grad_(False)


def num_weight_bytes(model: nn.Module) -> int:
    """Bytes of all that its state dict holds."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


class Int8(nn.Module):
    """A weight of two axes as int8 `weight` [n, m] and float32 `scale` [n] of its rows."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor) -> None:
        """Of a float weight [n, m]; what is zero stays so."""
        super().__init__()
        steps, scale = to_int8(weight.detach().float())
        self.register_buffer("weight", steps)
        self.register_buffer("scale", scale[:, 0])


class Int8Linear(Int8):
    """A bias-free map; `weight` lies as the product reads it, [in, out], `scale` is [out]."""

    def __init__(self, weight: Tensor) -> None:
        """Of a float weight [out, in]."""
        super().__init__(weight)
        self.weight = self.weight.t().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out], same dtype."""
        rows = x.flatten(0, -2).float()
        per_step = STEPS / rows.abs().amax(dim=-1, keepdim=True).clamp(min=TINY)
        exact = rows * per_step
        steps = exact.round()
        rest = (exact - steps).mul(_FINER).round()
        both = torch.cat([steps, rest]).to(torch.int8)
        # torch 2.13's product is wrong where only one number goes in.
        alone = len(self.weight) == 1
        sums = both.int() * self.weight if alone else torch._int_mm(both, self.weight)
        coarse, fine = sums.unflatten(0, (2, -1))
        product = (coarse + fine / _FINER) * self.scale / per_step
        return product.to(x.dtype).unflatten(0, x.shape[:-1])


class Int8Embedding(Int8):
    """A table, [rows, D]; rows become float32 when they are looked up."""

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [...] -> float32 [..., D]."""
        return self.weight[rows] * self.scale[rows][..., None]

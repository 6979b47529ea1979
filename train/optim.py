"""How weights move: one optimiser per kind of parameter behind one face, and their average.

Kinds: tables (rows looked up by hash); hidden matrices, both of whose sides grow with the
model's width; input and output matrices, of which one side does; the rest (norms, scalars, small
embeddings).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from configs import Config
from train.models.sharded import Shards

# Maps from something whose size has nothing to do with the model's width, and to such a thing.
INPUTS = ("tokens.action", "facts.content", "signals.0", "likeness.0", "wide", "_projection")
OUTPUTS = ("unembed",)


class OptimConfig(Config):
    """AdamW: linear warm-up, then a cosine down to a twentieth of the peak."""

    lr: PositiveFloat = 4e-3  # peak, of the matrices
    table_lr: PositiveFloat = 1e-2  # peak, of the embedding tables
    weight_decay: NonNegativeFloat = 0.01  # of the matrices; tables are not decayed
    warmup_steps: NonNegativeInt = 100
    grad_clip: PositiveFloat = 1.0  # largest global norm of a step's gradient
    # rowwise_adagrad keeps one number per row where AdamW keeps two per weight; it wants a table_lr
    # of about 0.1.
    table_optimizer: Literal["adamw", "rowwise_adagrad"] = "adamw"
    adagrad_initial: NonNegativeFloat = 0.0  # where each row's accumulator starts
    adagrad_eps: PositiveFloat = 1e-10
    adagrad_half_life_steps: PositiveFloat | None = None  # of the accumulators; None = no decay
    # muon orthogonalises the updates of hidden matrices, scaled to the size of AdamW's, so that it
    # takes the same lr. Everything else stays with AdamW.
    matrix_optimizer: Literal["adamw", "muon"] = "adamw"
    # Inputs of the matrix for which lr was chosen; wider ones get a lower rate: see `width_scale`.
    base_width: PositiveInt | None = None
    ema_decay: float | None = Field(default=None, ge=0, lt=1)  # of the averaged weights
    max_skipped_in_a_row: NonNegativeInt = 10  # steps with a non-finite gradient; more = error


def kind_of(name: str, module: nn.Module, weight: Tensor) -> str:
    """What kind of parameter `name` of `module` is: table, hidden, input, output or rest."""
    path = name.rpartition(".")[0]
    if "tables." in name:
        return "table"
    if path.endswith(INPUTS):
        return "input"
    if path.endswith(OUTPUTS):
        return "output"
    return "hidden" if isinstance(module, nn.Linear) and weight.ndim == 2 else "rest"


def width_scale(kind: str, weight: Tensor, config: OptimConfig) -> float:
    """Factor on the learning rate that keeps the step of activations the same at every width.

    AdamW moves each entry by about the rate, and the entries of one row agree with each other, so
    that an output moves by rate × inputs: hidden and output matrices get base_width / inputs
    (Yang et al. 2022, "Tensor Programs V", table 3, the column of Adam). Muon's update as scaled
    here has a spectral norm of 0.2 · sqrt(longer side) and moves an output by rate × sqrt(inputs):
    hence the root (Yang, Simon & Bernstein 2023, "A spectral condition for feature learning").
    Tables, inputs and the rest are the same at every width.

    The parametrisation has a second half, which lies with the model: table rows drawn alike at
    every width and log-odds that start near 0 (output matrices drawn with 1 / inputs², or a
    multiplier of base_width / inputs on what they give). The published model draws rows with
    1 / width and its output matrix with 1 / actions; with those, steps of hidden activations
    come close to equal, those of log-odds still grow with width.
    """
    if config.base_width is None or kind not in ("hidden", "output"):
        return 1.0
    scale = config.base_width / weight.shape[1]
    return math.sqrt(scale) if kind == "hidden" and config.matrix_optimizer == "muon" else scale


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad with one accumulator per row of a table, the mean of its squared gradients.

    G_r ← 2^(-1/half_life) · G_r + mean_c g_rc²;  w_r ← (1 - lr · decay) w_r - lr g_r / (√G_r + eps)

    Only rows with a gradient move or decay; the accumulators of all fade. Dense and sparse
    gradients [V, D] give the same result. (Gupta et al. 2014 for one rate per group; Mudigere et
    al. 2022 for tables.)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        initial: float = 0.0,
        eps: float = 1e-10,
        half_life: float | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        """`half_life` in steps, None = accumulators never fade."""
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})
        self.fade = 1.0 if half_life is None else 0.5 ** (1 / half_life)
        for group in self.param_groups:
            for table in group["params"]:
                self.state[table]["sum"] = torch.full((len(table),), initial, dtype=torch.float32)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the rows that have a gradient."""
        assert closure is None, "not supported"
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._step(table, group)

    def _step(self, table: Tensor, group: dict[str, Any]) -> None:
        grad, state = table.grad, self.state[table]
        assert grad is not None
        if grad.is_sparse:
            grad = grad.coalesce()
            rows, values = grad.indices()[0], grad.values()
        else:
            rows = grad.any(dim=1).nonzero().flatten()
            values = grad[rows]
        sums = state["sum"] = state["sum"].to(table.device)
        sums.mul_(self.fade)
        sums.index_add_(0, rows, values.float().square().mean(dim=1))
        size = group["lr"] / (sums[rows].sqrt() + group["eps"])
        if group["weight_decay"]:
            table[rows] *= 1 - group["lr"] * group["weight_decay"]
        table.index_add_(0, rows, (values * size[:, None]).to(table.dtype), alpha=-1)


class Optimizers:
    """Several optimisers that look like one."""

    def __init__(self, parts: list[torch.optim.Optimizer], shards: Shards) -> None:
        self.parts, self.shards = parts, shards

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all, in order."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """One step of each."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """All that resuming to the bit needs, for whole tables; see `Shards.whole`."""
        return {"parts": [self.shards.whole_state(part) for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of the same settings."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(self.shards.part_of_state(part, saved))


def make_optimizer(
    model: nn.Module, config: OptimConfig, shards: Shards | None = None
) -> Optimizers:
    """The optimisers that `config` describes, for all parameters of `model`.

    Args:
        model: whose tables may be sharded.
        config: what moves which kind.
        shards: of the model's tables; None = whole tables.
    """
    tables: list[Tensor] = []
    muon: dict[float, list[Tensor]] = {}  # by factor on the rate
    adamw: dict[float, list[Tensor]] = {}
    modules = dict(model.named_modules())
    for name, weight in model.named_parameters():
        kind = kind_of(name, modules[name.rpartition(".")[0]], weight)
        if kind == "table":
            tables.append(weight)
            continue
        to_muon = kind == "hidden" and config.matrix_optimizer == "muon"
        by_scale = muon if to_muon else adamw
        by_scale.setdefault(width_scale(kind, weight, config), []).append(weight)

    def groups(by_scale: dict[float, list[Tensor]]) -> list[dict[str, Any]]:
        """What a step decays is rate × decay: the same at every width."""
        return [
            {
                "params": weights,
                "lr": config.lr * scale,
                "weight_decay": config.weight_decay / scale,
            }
            for scale, weights in by_scale.items()
        ]

    parts: list[torch.optim.Optimizer] = []
    adamw_groups = groups(adamw)
    if tables and config.table_optimizer == "rowwise_adagrad":
        settings = (config.adagrad_initial, config.adagrad_eps, config.adagrad_half_life_steps)
        parts.append(RowwiseAdagrad(tables, config.table_lr, *settings))
    elif tables:
        adamw_groups.insert(0, {"params": tables, "lr": config.table_lr, "weight_decay": 0.0})
    if muon:
        parts.append(torch.optim.Muon(groups(muon), adjust_lr_fn="match_rms_adamw"))
    if adamw_groups:
        parts.append(torch.optim.AdamW(adamw_groups, betas=(0.9, 0.98), fused=True))
    return Optimizers(parts, shards or Shards())


def lr_scale(step: int, num_steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate at `step` of `num_steps`."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / max(num_steps, 1), 1.0)))
    return warm * (0.05 + 0.95 * cosine)


class Average:
    """An exponential moving average of a model's weights.

    a ← d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)) at update n, so that the first
    weights are soon forgotten (TensorFlow's ExponentialMovingAverage). Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay, self.num_updates = model, decay, 0
        self.weights: dict[str, Tensor] = {}
        self.restart(0)

    def restart(self, num_updates: int) -> None:
        """Take the model's weights as the average of `num_updates`."""
        self.num_updates = num_updates
        self.weights = {n: p.detach().clone() for n, p in self.model.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the model's weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        now = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.weights.values()), now, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the model's weights are the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.data, self.weights[name] = self.weights[name], parameter.data

"""Hash tables of which each data-parallel worker holds a share of the rows.

Row r lies on worker r % W, at place r // W there: neighbours lie apart, so that every worker gets
about as many questions. A lookup asks the owners, and gradients go back the way the rows came;
every worker takes part in each exchange, also with nothing to ask. (Naumov et al. 2019,
"Deep Learning Recommendation Model", section 4: tables by model, the rest by data.)

Axes: W workers, V rows of a whole table, R of them here, K rows asked for, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, clip_grads_with_norm_, get_total_norm

from train.models.tokens import HashTables

_NO_TABLE = -1  # in place of a table's number: asks for nothing more


class Shards:
    """The sharded tables of a model; none of them = every worker has all rows, nothing to do."""

    def __init__(
        self,
        group: torch.distributed.ProcessGroup | None = None,
        in_memory: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        """Both groups are of the workers that share the rows.

        Args:
            group: for tensors where the model trains.
            in_memory: for tensors in main memory; a device need not hold a whole table.
        """
        self.group, self.in_memory = group, in_memory
        self.rank, self.num_workers = 0, 1
        if group is not None:
            self.rank = torch.distributed.get_rank(group)
            self.num_workers = torch.distributed.get_world_size(group)
        self.tables: dict[str, ShardedTable] = {}  # by name of their weight in the model

    def look_up(self, table: int, ids: Tensor) -> Tensor:
        """Rows of table number `table`, from whoever has them. int64 [...] -> [..., D]."""
        wanted, place = ids.unique(return_inverse=True)
        owner = wanted % self.num_workers
        order = owner.argsort(stable=True)
        counts = owner.bincount(minlength=self.num_workers)
        rows = self._exchange(table, wanted[order] // self.num_workers, counts)
        assert rows is not None
        return F.embedding(order.argsort()[place], rows)

    def serve(self) -> None:
        """Answer the others until all are here; to be called by all who made lookups.

        Before it, workers may make different numbers of lookups, if none needs a gradient.
        """
        if not self.tables:
            return
        weight = next(iter(self.tables.values())).weight
        nothing = torch.zeros(0, dtype=torch.int64, device=weight.device)
        counts = nothing.new_zeros(self.num_workers)
        while self._exchange(_NO_TABLE, nothing, counts) is not None:
            pass

    def _exchange(self, table: int, places: Tensor, counts: Tensor) -> Tensor | None:
        """One round of questions and answers.

        Args:
            table: which is asked for, the same or another than others ask for.
            places: of the rows wanted in their owners' shards, by owner. int64 [K].
            counts: how many of each owner. int64 [W].

        Returns:
            The rows [K, D]; None if nobody has anything to ask any more.
        """
        asking = torch.stack([counts, torch.full_like(counts, table)], dim=1)
        asked = torch.empty_like(asking)
        torch.distributed.all_to_all_single(asked, asking, group=self.group)
        questions = asked.tolist()
        if all(number == _NO_TABLE for _, number in questions):
            return None
        sizes, from_owner = [size for size, _ in questions], counts.tolist()
        mine = places.new_empty(sum(sizes))
        torch.distributed.all_to_all_single(mine, places, sizes, from_owner, group=self.group)
        tables = list(self.tables.values())
        answers = [
            tables[number].own_rows(part)
            for part, (_, number) in zip(mine.split(sizes), questions, strict=True)
        ]
        rows: Tensor = _Answer.apply(torch.cat(answers), sizes, from_owner, self.group)
        return rows

    def clip_grad_norm(self, parameters: Iterable[Tensor], max_norm: float) -> Tensor:
        """Scale gradients to a norm of at most `max_norm` over whole tables and all else.

        Returns:
            The norm before, the same on all workers. A scalar.
        """
        if not self.tables:
            return clip_grad_norm_(parameters, max_norm)
        parameters = [p for p in parameters if p.grad is not None]
        own = {id(table.weight) for table in self.tables.values()}
        square = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
        for p in parameters:
            if id(p) in own:
                assert p.grad is not None
                square += torch.linalg.vector_norm(p.grad, dtype=torch.float64).square()
        torch.distributed.all_reduce(square, group=self.group)
        rest = get_total_norm(
            [p.grad for p in parameters if id(p) not in own and p.grad is not None]
        )
        norm = (rest.double().square() + square).sqrt().float()
        clip_grads_with_norm_(parameters, max_norm, norm)
        return norm

    def part(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a model's whole `weights`, what this worker holds."""
        own = {name: self._own(weights[name]) for name in self.tables if name in weights}
        return weights | own

    def whole(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A model's `weights` with whole tables, on worker 0; what is here, on the others.

        All workers must call it together.
        """
        tables = self.tables.items()
        return weights | {n: self._gathered(weights[n], t.num_rows) for n, t in tables}

    def part_of_state(
        self, optimizer: torch.optim.Optimizer, saved: dict[str, Any]
    ) -> dict[str, Any]:
        """Of an optimiser's state for whole tables, what this worker holds."""
        return self._change_state(optimizer, saved, lambda values, _: self._own(values))

    def whole_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """An optimiser's `state_dict` for whole tables, with worker 0; as `whole` does weights."""
        return self._change_state(optimizer, optimizer.state_dict(), self._gathered)

    def _change_state(
        self,
        optimizer: torch.optim.Optimizer,
        saved: dict[str, Any],
        change: Callable[[Tensor, int], Tensor],
    ) -> dict[str, Any]:
        """A state with `change` applied to all that has a value, or several, for each row."""
        num_rows = {id(table.weight): table.num_rows for table in self.tables.values()}
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        state = dict(saved["state"])
        for index in sorted(state):
            size = num_rows.get(id(weights[index]))
            if size is not None:
                state[index] = {
                    name: change(value, size) if torch.is_tensor(value) and value.ndim else value
                    for name, value in state[index].items()
                }
        return saved | {"state": state}

    def _own(self, rows: Tensor) -> Tensor:
        """[V, ...] -> a copy of this worker's [R, ...]."""
        return rows[self.rank :: self.num_workers].clone()

    @torch.no_grad()
    def _gathered(self, rows: Tensor, num_rows: int) -> Tensor:
        """[R, ...] -> all workers' [V, ...] in main memory, on worker 0; on others, as it was."""
        most = -(-num_rows // self.num_workers)
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype)  # some have a row less
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.num_workers if not self.rank else 0)]
        torch.distributed.gather(padded, parts or None, group=self.in_memory, group_dst=0)
        return torch.stack(parts, dim=1).flatten(0, 1)[:num_rows] if parts else rows


class ShardedTable(nn.Module):
    """In the place of an nn.Embedding of whole rows: `weight` holds this worker's, [R, D]."""

    def __init__(self, whole: nn.Embedding, shards: Shards, number: int) -> None:
        super().__init__()
        self.num_rows = whole.num_embeddings  # V
        self.weight = nn.Parameter(shards._own(whole.weight.detach()))
        self.look_up, self.number = shards.look_up, number
        # Where row 0 lies, it is padding: it gets no gradient.
        self.padding = whole.padding_idx if shards.rank == 0 else None

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [...] -> [..., D]; a call is an exchange between all workers."""
        return self.look_up(self.number, ids)

    def own_rows(self, places: Tensor) -> Tensor:
        """int64 [K], each < R -> [K, D]."""
        return F.embedding(places, self.weight, padding_idx=self.padding)


def shard_tables(model: nn.Module) -> Shards:
    """Replace all hash tables of `model` by this worker's share of their rows.

    To be called on every worker with the model in main memory, before the optimiser is made and
    the model moved and wrapped. First rows are worker 0's, as DistributedDataParallel has it for
    all else. One worker keeps its tables.
    """
    distributed = torch.distributed.is_initialized()
    if not distributed or torch.distributed.get_world_size() == 1:
        return Shards()
    # Groups of their own: exchanges never mix with the sums of gradients under way.
    shards = Shards(torch.distributed.new_group(), torch.distributed.new_group(backend="gloo"))
    for path, module in model.named_modules():
        if not isinstance(module, HashTables):
            continue
        for kind, table in list(module.named_children()):
            assert isinstance(table, nn.Embedding)
            torch.distributed.broadcast(table.weight.data, 0, group=shards.in_memory)
            sharded = ShardedTable(table, shards, len(shards.tables))
            setattr(module, kind, sharded)
            shards.tables[f"{path}.{kind}.weight" if path else f"{kind}.weight"] = sharded
    # Each worker's rows are its own: there is nothing to average, and nothing alike to start from.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(shards.tables))
    return shards


class _Answer(torch.autograd.Function):
    """Rows to those who asked for them; gradients back to those who have the rows.

    A row's gradient is the sum of what comes back over W: as if the loss were the mean of the
    workers' losses, which is what DistributedDataParallel makes of all other gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, sizes: list[int], from_owner: list[int], group: Any
    ) -> Tensor:
        ctx.sizes, ctx.from_owner, ctx.group = sizes, from_owner, group
        out = rows.new_empty(sum(from_owner), rows.shape[1])
        torch.distributed.all_to_all_single(out, rows, from_owner, sizes, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        out = grad.new_empty(sum(ctx.sizes), grad.shape[1])
        grad = grad.contiguous()
        torch.distributed.all_to_all_single(out, grad, ctx.sizes, ctx.from_owner, group=ctx.group)
        return out / torch.distributed.get_world_size(ctx.group), None, None, None

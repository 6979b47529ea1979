"""Sharded tables learn what whole ones learn, and leave as whole tables."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tests.train.small_run import MODEL, SHAPE, config, start, tables
from train.loop import TrainConfig, Trainer, batches
from train.models.sharded import Shards
from train.optim import Optimizers

Batches = list[dict[str, torch.Tensor]]

# Its first accumulator makes the step follow the gradient's size, which Adam's does not.
ADAGRAD = {"table_optimizer": "rowwise_adagrad", "adagrad_initial": 1e-4, "ema_decay": 0.9}
NUM_STEPS = 4


def settings(optim: dict, accumulate: int = 1, **changes: object) -> TrainConfig:
    """A ranker of two layers, an odd number of users and a clip that every step meets."""
    features = MODEL["features"] | {"user_vocab": 501}
    model = MODEL | {"features": features, "transformer": SHAPE | {"num_layers": 2}}
    optim = {"grad_clip": 0.05} | optim
    return config("ranker", optim, learning={"model": model}, accumulate=accumulate, **changes)


def placed(run: TrainConfig, data: Path) -> Trainer:
    """A worker's trainer, in step with the other's."""
    trainer = start(run, data)
    trainer.place(DistributedDataParallel(trainer.learner.model), torch.device("cpu"))
    return trainer


def learn(trainer: Trainer, stream: Batches, steps: range) -> list[float]:
    """The losses of some steps on this worker's half of the batches."""
    each = trainer.config.accumulate
    rank, losses = torch.distributed.get_rank(), []
    for step in steps:
        at = (2 * step + rank) * each
        own = stream[at : at + each]
        losses.append(trainer.step(own[0], step, own[1:])["loss"])
    return losses


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Those of the last step, with whole tables."""
    named = trainer.learner.model.named_parameters()
    return trainer.shards.whole({name: p.grad for name, p in named})


def totals(trainer: Trainer, stream: Batches) -> torch.Tensor:
    """Both workers' validation loss: sum and weight. Worker 0 has three batches, the other one."""
    own = stream[:1] if torch.distributed.get_rank() else stream[1:4]
    result = torch.tensor(trainer.evaluate(own)["loss"])
    torch.distributed.all_reduce(result)
    return result


def story(run: TrainConfig, data: Path, stream: Batches) -> dict:
    """All that a run of both workers comes to; whole on worker 0."""
    trainer = placed(run, data)
    losses = learn(trainer, stream, range(NUM_STEPS))
    return {
        "losses": losses,
        "gradients": gradients(trainer),
        "totals": totals(trainer, stream),
        "weights": trainer.weights(),
        "state": trainer.state_dict(),
        "held": sum(p.numel() for p in trainer.learner.model.parameters()),
    }


def on_both(work, *arguments: object, folder: Path) -> list:
    """What `work` returns on each of two workers."""
    start_both = torch.multiprocessing.start_processes
    start_both(_one, (work, arguments, folder), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _one(rank: int, work, arguments: tuple, folder: Path) -> None:
    meet = f"file://{folder / 'meet'}"
    torch.distributed.init_process_group("gloo", meet, rank=rank, world_size=2)
    torch.save(work(*arguments), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def both_ways(run: TrainConfig, data: Path, stream: Batches) -> list[dict]:
    """The same run with whole tables and with shards."""
    runs = (run.model_copy(update={"table_placement": p}) for p in ("replicated", "sharded"))
    return [story(one, data, stream) for one in runs]


def stream_of(run: TrainConfig, data: Path) -> Batches:
    """All batches of a run, from 0 on."""
    trainer = start(run, data)
    return list(batches(trainer.learner, tables(data, run.batch_size), (0,)))


@pytest.mark.parametrize(("optim", "accumulate"), [({}, 1), (ADAGRAD, 2)])
def test_sharded_equals_replicated(optim, accumulate, prepared, tmp_path):
    """Losses, gradients, weights, state and validation of two workers are the same either way.

    And each of the two then holds half of the rows.
    """
    run = settings(optim, accumulate)
    results = on_both(both_ways, run, prepared, stream_of(run, prepared), folder=tmp_path)

    for whole, sharded in results:
        assert sharded["losses"] == pytest.approx(whole["losses"], rel=1e-5)
        torch.testing.assert_close(sharded["totals"], whole["totals"], rtol=1e-4, atol=0)
    whole, sharded = results[0]
    assert sharded["weights"].keys() == whole["weights"].keys()
    for name, gradient in whole["gradients"].items():
        torch.testing.assert_close(sharded["gradients"][name], gradient, rtol=1e-3, atol=1e-7)
    for name, weight in whole["weights"].items():
        torch.testing.assert_close(sharded["weights"][name], weight, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(*(r["state"]["optimizer"]["parts"] for r in results[0]), strict=True):
        assert ours["state"].keys() == theirs["state"].keys()
        for index, values in theirs["state"].items():
            torch.testing.assert_close(ours["state"][index], values, rtol=1e-2, atol=1e-6)
    table_size = sum(w.numel() for n, w in whole["weights"].items() if n.startswith("tables."))
    saved = [whole["held"] - sharded["held"] for whole, sharded in results]
    assert sum(saved) == table_size
    assert abs(saved[0] - saved[1]) <= 16  # 501 rows of 16: one worker has one more


def interrupted(run: TrainConfig, data: Path, stream: Batches, folder: Path) -> list:
    """A run kept after two steps by worker 0, then gone on with by it and by a fresh one."""
    first = placed(run, data)
    learn(first, stream, range(2))
    kept = copy.deepcopy((first.weights(), first.state_dict()))
    if torch.distributed.get_rank() == 0:
        torch.save(kept, folder / "checkpoint.pt")
    torch.distributed.barrier()
    second = placed(run.model_copy(update={"seed": 1}), data)
    second.load_state_dict(*torch.load(folder / "checkpoint.pt"))
    for trainer in (first, second):
        learn(trainer, stream, range(2, NUM_STEPS))
    return [(t.weights(), t.state_dict()["optimizer"]) for t in (first, second)]


@pytest.mark.parametrize("optim", [{"ema_decay": 0.9}, ADAGRAD])
def test_checkpoint_holds_whole_tables(optim, prepared, tmp_path):
    """It resumes shards to the bit, and a single worker with whole tables loads it as its own."""
    run = settings(optim, table_placement="sharded")
    stream = stream_of(run, prepared)
    straight, resumed = on_both(interrupted, run, prepared, stream, tmp_path, folder=tmp_path)[0]
    weights, state = torch.load(tmp_path / "checkpoint.pt")
    alone = start(run, prepared)  # one worker keeps whole tables
    alone.load_state_dict(*copy.deepcopy((weights, state)))

    same(resumed, straight)
    same((alone.weights(), alone.state_dict()), (weights, state))
    assert {n: w.shape for n, w in weights.items()} == {
        n: w.shape for n, w in start(run, prepared).weights().items()
    }


def same(ours: object, theirs: object) -> None:
    """All values in two structures are equal to the bit."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def broken_shard(run: TrainConfig, data: Path, stream: Batches) -> tuple[int, list[bool]]:
    """A step in which only worker 1's rows of a table have no finite gradient."""
    trainer = placed(run, data)
    learn(trainer, stream, range(1))
    before = copy.deepcopy(trainer.learner.model.state_dict())
    if torch.distributed.get_rank():
        trainer.learner.model.tables.post.weight.register_hook(lambda g: g * float("nan"))
    learn(trainer, stream, range(1, 2))
    after = trainer.learner.model.state_dict()
    return trainer.num_skipped, [torch.equal(before[name], after[name]) for name in before]


def test_step_is_skipped_together(prepared, tmp_path):
    """Where one worker's rows have no finite gradient, no worker makes the step."""
    run = settings(ADAGRAD, table_placement="sharded")
    for skipped, unmoved in on_both(
        broken_shard, run, prepared, stream_of(run, prepared), folder=tmp_path
    ):
        assert skipped == 1
        assert all(unmoved)


def test_alone_nothing_is_sharded(prepared):
    """One worker's sharded tables are the replicated ones, trained to the bit alike."""
    runs = (settings({}, table_placement=p) for p in ("sharded", "replicated"))
    trainers = [start(run, prepared) for run in runs]
    stream = stream_of(trainers[0].config, prepared)
    ours, theirs = ([t.step(stream[0], 0), t.step(stream[1], 1)] for t in trainers)

    assert ours == theirs
    assert isinstance(trainers[0].optimizer, Optimizers)
    assert trainers[0].shards.tables == Shards().tables == {}
    same(trainers[0].weights(), trainers[1].weights())

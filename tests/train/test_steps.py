"""What a step promises: one mean over all its batches, and no harm from a broken one."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tests.train.small_run import config, start, tables
from train.loop import Progress, Trainer, batches, train_epoch


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Those that the last step was made of."""
    return {n: p.grad.clone() for n, p in trainer.learner.model.named_parameters()}


def uneven(trainer: Trainer, data: Path) -> tuple[list[dict], dict]:
    """Four batches that observe ever fewer candidates, and one batch of all their examples."""
    rows = pa.concat_tables(tables(data, 16)[:4])
    whole = trainer.learner.batch(rows, np.random.default_rng(0))
    whole["label_mask"] = whole["label_mask"].clone()
    for index in range(4):
        whole["label_mask"][16 * (index + 1) - 4 * index : 16 * (index + 1)] = 0
    parts = [{n: t[16 * i : 16 * (i + 1)] for n, t in whole.items()} for i in range(4)]
    assert len({int(part["label_mask"].amax(dim=-1).sum()) for part in parts}) > 1
    return parts, whole


def test_accumulated_step_equals_one_big_batch(prepared):
    """The mean is over all observed candidates, not of each batch's mean.

    The dwell loss, a mean over what was measured, is left out: where not every candidate has
    both, its share differs from that in one big batch.
    """
    settings = config("ranker", {"grad_clip": 1e9}, learning={"dwell_weight": 0})
    several, one = start(settings, prepared), start(settings, prepared)
    parts, whole = uneven(several, prepared)

    means = several.step(parts[0], 0, parts[1:])
    expected = one.step(whole, 0)

    assert means == pytest.approx(expected, rel=1e-5)
    theirs = gradients(one)
    for name, gradient in gradients(several).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6)


def test_accumulated_epoch_takes_as_many_batches(prepared):
    """An epoch of n accumulated steps uses n times as many batches, and no half step is made."""
    settings = config("ranker", accumulate=3)
    trainer, progress = start(settings, prepared), Progress()
    train = tables(prepared, settings.batch_size)[:8]

    train_epoch(trainer, batches(trainer.learner, train, (0,)), progress, 2, lambda _: None)
    assert progress.total_steps == 2

    stream = batches(trainer.learner, train, (0,))
    with pytest.raises(RuntimeError, match="data ended at 2/3"):
        train_epoch(trainer, stream, Progress(), 3, lambda _: None)


def broken(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same batch with a history that no gradient survives."""
    return batch | {"history_actions": batch["history_actions"] * float("nan")}


def test_step_without_finite_gradient_is_skipped(prepared):
    """A batch that gives NaN leaves weights, their average and optimisers alone, and is counted."""
    trainer = start(config("ranker", {"ema_decay": 0.9}), prepared)
    first, second, *_ = batches(trainer.learner, tables(prepared, 16), (0,))
    trainer.step(first, 0)
    before = copy.deepcopy((trainer.weights(), trainer.state_dict()))
    parts = trainer.step(broken(second), 1)
    after = trainer.weights(), trainer.state_dict()

    assert np.isnan(parts["loss"])
    assert (trainer.num_skipped, trainer.skipped_in_a_row) == (1, 1)
    for name, weight in before[0].items():
        assert torch.equal(weight, after[0][name]), name
    moments = (state["optimizer"]["parts"][0]["state"] for state in (before[1], after[1]))
    for old, new in zip(*(m.values() for m in moments), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in old)
    trainer.step(second, 2)
    assert (trainer.num_skipped, trainer.skipped_in_a_row) == (1, 0)


def test_infinite_loss_with_a_finite_gradient_is_skipped(prepared):
    """A loss that is not finite stops the step even where its gradient would be."""
    trainer = start(config("ranker"), prepared)
    loss = trainer.learner.loss
    trainer.learner.loss = lambda model, batch: {
        name: part + float("inf") if name == "loss" else part
        for name, part in loss(model, batch).items()
    }
    batch = next(batches(trainer.learner, tables(prepared, 16), (0,)))
    trainer.step(batch, 0)

    assert trainer.num_skipped == 1


def test_too_many_skipped_steps_are_an_error(prepared):
    """Two are allowed here; the third in a row stops the run and says which settings to look at."""
    trainer = start(config("ranker", {"max_skipped_in_a_row": 2}), prepared)
    batch = broken(next(batches(trainer.learner, tables(prepared, 16), (0,))))
    for step in range(2):
        trainer.step(batch, step)

    with pytest.raises(FloatingPointError, match=r"step 2: the last 3 .*optim\.lr"):
        trainer.step(batch, 2)


def test_averaged_weights_are_those_evaluated_and_kept(prepared):
    """With ema_decay, evaluation equals that of a model loaded from `weights`."""
    averaging = start(config("ranker", {"ema_decay": 0.9}), prepared)
    stream = list(batches(averaging.learner, tables(prepared, 16), (0,)))
    for step, batch in enumerate(stream[:5]):
        averaging.step(batch, step)
    fresh = start(config("ranker"), prepared)
    raw = fresh.evaluate(stream[5:8]), copy.deepcopy(averaging.learner.model.state_dict())
    fresh.learner.model.load_state_dict(averaging.weights())

    assert averaging.evaluate(stream[5:8]) == fresh.evaluate(stream[5:8]) != raw[0]
    for name, weight in averaging.learner.model.state_dict().items():
        assert torch.equal(weight, raw[1][name]), name


def test_averaging_does_not_change_what_is_learned(prepared):
    """The weights behind the average are those of a run without it, to the bit."""
    with_it, without = (start(config("ranker", o), prepared) for o in ({"ema_decay": 0.9}, {}))
    for trainer in (with_it, without):
        for step, batch in enumerate(batches(trainer.learner, tables(prepared, 16)[:4], (0,))):
            trainer.step(batch, step)

    theirs = without.learner.model.state_dict()
    for name, weight in with_it.learner.model.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.parametrize(
    ("losses", "patience", "stops"),
    [
        ([], 1, False),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.0, 2.0], 2, True),  # no better is not better
        ([3.0, 2.0, 2.5, 1.9], 2, False),
        ([1.0, 2.0, 3.0, 4.0], None, False),
    ],
)
def test_patience_counts_validations_since_the_best(losses, patience, stops):
    """A run stops after `patience` validations in a row without a new best, and not before."""
    progress = Progress(history=[{"loss": loss} for loss in losses])

    assert progress.ran_out(patience) is stops


def test_epoch_stops_where_it_is_told(prepared):
    """A true answer to `after_step` ends the epoch there, which is no error."""
    trainer, progress = start(config("ranker"), prepared), Progress()
    stream = batches(trainer.learner, tables(prepared, 16), (0,))
    train_epoch(trainer, stream, progress, 20, lambda _: progress.step == 3)

    assert progress.step == progress.total_steps == 3


def on_two_workers(rank: int, trainer: Trainer, parts: list[dict], meet: str, out: Path) -> None:
    """One accumulated step on this worker's half of the batches, and one that is broken."""
    torch.distributed.init_process_group("gloo", f"file://{meet}", rank=rank, world_size=2)
    trainer.place(DistributedDataParallel(trainer.learner.model), torch.device("cpu"))
    own = parts[2 * rank : 2 * rank + 2]
    trainer.step(own[0], 0, own[1:])
    trainer.step(broken(own[0]) if rank else own[0], 1)
    torch.save((trainer.num_skipped, trainer.weights()), out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_workers_make_the_step_of_one(prepared, tmp_path):
    """Four uneven batches give the same step on one worker as two each on two.

    And a batch that is broken for one worker is skipped by both.
    """
    settings = config("ranker", {"grad_clip": 1e9}, learning={"dwell_weight": 0})
    one, two = start(settings, prepared), start(settings, prepared)
    parts, _ = uneven(one, prepared)
    one.step(parts[0], 0, parts[1:])
    arguments = (two, parts, str(tmp_path / "meet"), tmp_path)
    torch.multiprocessing.start_processes(on_two_workers, arguments, nprocs=2, start_method="fork")

    for rank in range(2):
        num_skipped, weights = torch.load(tmp_path / f"{rank}.pt")
        assert num_skipped == 1
        for name, weight in one.weights().items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6)

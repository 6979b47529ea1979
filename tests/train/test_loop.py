"""The loop learns, and a run that was interrupted ends as if it had not been."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from configs import check, load
from train.learners import RankerLearning, RetrievalLearning, make_learner
from train.loop import Progress, TrainConfig, Trainer, batches, lr_scale, prefetch, train_epoch

SMALL = {"history_len": 8, "user_vocab": 500, "post_vocab": 500, "author_vocab": 200}
SHAPE = {"num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "key_size": 8}
MODEL = {"emb_size": 16, "transformer": SHAPE, "features": SMALL}


def config(kind: str) -> TrainConfig:
    """A run that takes a second."""
    learning = {"kind": kind, "model": MODEL}
    values = {"name": "t", "learning": learning, "batch_size": 16, "optim": {"warmup_steps": 5}}
    return check(values, TrainConfig, place="test")


def tables(data: Path, batch_size: int) -> list[pa.Table]:
    """The first twenty batches of the training split."""
    rows = pq.read_table(data / "examples" / "split=train", partitioning=None)
    return [rows.slice(at * batch_size, batch_size) for at in range(20)]


def run(settings: TrainConfig, data: Path, num_epochs: int) -> tuple[Trainer, list[float]]:
    """Train and keep the loss of each step."""
    torch.manual_seed(settings.seed)
    train = tables(data, settings.batch_size)
    learner = make_learner(settings.learning, data)
    trainer = Trainer(settings, learner, num_epochs * len(train))
    losses: list[float] = []
    progress = Progress()
    for epoch in range(num_epochs):
        stream = batches(learner, train, (settings.seed, epoch))
        train_epoch(trainer, stream, progress, len(train), lambda p: losses.append(p["loss"]))
        progress.epoch, progress.step = epoch + 1, 0
    return trainer, losses


@pytest.mark.parametrize("kind", ["ranker", "retrieval"])
def test_loss_falls(kind, prepared):
    """Two epochs over the same batches lower the training loss."""
    _, losses = run(config(kind), prepared, num_epochs=2)

    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


@pytest.mark.parametrize("kind", ["ranker", "retrieval"])
def test_resumed_equals_uninterrupted(kind, prepared):
    """Weights and losses after a stop in mid-epoch equal those without it, to the bit."""
    settings = config(kind)
    train = tables(prepared, settings.batch_size)[:12]

    def start() -> tuple[Trainer, Progress, list[float]]:
        torch.manual_seed(settings.seed)
        learner = make_learner(settings.learning, prepared)
        return Trainer(settings, learner, len(train)), Progress(), []

    def go_on(trainer: Trainer, progress: Progress, losses: list[float], until: int) -> None:
        stream = batches(trainer.learner, train, (settings.seed, 0), skip=progress.step)
        train_epoch(trainer, stream, progress, until, lambda parts: losses.append(parts["loss"]))

    straight, progress, expected = start()
    go_on(straight, progress, expected, len(train))
    killed, progress, losses = start()
    go_on(killed, progress, losses, 7)
    resumed, _, _ = start()
    resumed.learner.model.load_state_dict(killed.learner.model.state_dict())
    resumed.optimizer.load_state_dict(copy.deepcopy(killed.optimizer.state_dict()))
    go_on(resumed, Progress(**vars(progress)), losses, len(train))

    assert losses == expected
    theirs = resumed.learner.model.state_dict()
    for name, weight in straight.learner.model.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


def test_evaluation_changes_nothing(prepared):
    """Held-out evaluation leaves the weights alone and repeats to the bit."""
    settings = config("ranker")
    trainer, _ = run(settings, prepared, num_epochs=1)
    before = copy.deepcopy(trainer.learner.model.state_dict())
    held_out = tables(prepared, 16)[:3]

    first, second = (trainer.evaluate(batches(trainer.learner, held_out, (0,))) for _ in range(2))

    assert first == second
    assert first["weight"] > 0
    for name, weight in trainer.learner.model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_epoch_that_ends_early_is_an_error(prepared):
    """Fewer batches than promised stop the run instead of shortening it."""
    settings = config("ranker")
    learner = make_learner(settings.learning, prepared)
    stream = batches(learner, tables(prepared, 16)[:2], (0,))

    with pytest.raises(RuntimeError, match="epoch 0: data ended at 2/3"):
        train_epoch(Trainer(settings, learner, 3), stream, Progress(), 3, lambda _: None)


def test_learning_rate_warms_up_and_falls():
    """The rate rises to its peak and then only falls, to a twentieth."""
    scales = [lr_scale(step, 1000, warmup_steps=100) for step in range(1001)]

    assert scales[0] < 0.02
    assert max(scales) == pytest.approx(scales[100], abs=0.03)
    assert (np.diff(scales[101:]) <= 0).all()
    assert scales[1000] == pytest.approx(0.05)


def test_prefetch_keeps_order_and_errors():
    """A prefetched stream gives the same items in order, and the error where it happened."""

    def failing():
        yield {"a": 1}
        raise KeyError("lost")

    assert [item["a"] for item in prefetch({"a": i} for i in range(50))] == list(range(50))
    stream = prefetch(failing())
    assert next(stream) == {"a": 1}
    with pytest.raises(KeyError, match="lost"):
        next(stream)


def test_unknown_positive_is_refused(prepared):
    """An action that does not exist is named together with those that do."""
    with pytest.raises(ValueError, match="positive: 'clik' is none of"):
        make_learner(RetrievalLearning(positive="clik"), prepared)


def test_positive_that_never_happens_is_refused(prepared, tmp_path):
    """An action that the training split does not hold is named before any step is made."""
    train = tmp_path / "examples" / "split=train"
    train.mkdir(parents=True)
    rows = pq.read_table(prepared / "examples" / "split=train", partitioning=None)
    nothing = pa.array([[0] * len(did) for did in rows["did"].to_pylist()], rows["did"].type)
    pq.write_table(rows.set_column(rows.schema.get_field_index("did"), "did", nothing), train / "p")
    for name in ("posts.parquet", "users.parquet", "manifest.json"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes())

    with pytest.raises(ValueError, match=r"no click in the training split; .*learning\.positive"):
        make_learner(RetrievalLearning(), tmp_path)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("r*/*.yaml")), ids=str)
def test_shipped_configs_build(path, prepared):
    """Every shipped run resolves and builds its model."""
    settings = load(path, TrainConfig)

    assert (path.parent.name == "ranker") == isinstance(settings.learning, RankerLearning)
    assert make_learner(settings.learning, prepared).model.config == settings.learning.model

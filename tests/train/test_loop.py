"""The loop learns, and a run that was interrupted ends as if it had not been."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from configs import load
from tests.serve.prefix_data import SIZE, with_texts
from tests.train.small_run import config, start, tables
from train.__main__ import STUDIES, study_kind
from train.learners import RankerLearning, RetrievalLearning, make_learner
from train.loop import Progress, TrainConfig, Trainer, batches, prefetch, train_epoch
from train.optim import lr_scale
from train.studies.content import runs_of
from train.studies.prefix_towers import TOWERS


def run(settings: TrainConfig, data: Path, num_epochs: int) -> tuple[Trainer, list[float]]:
    """Train and keep the loss of each step."""
    train = tables(data, settings.batch_size)
    trainer = start(settings, data, num_epochs * len(train))
    losses: list[float] = []
    progress = Progress()
    for epoch in range(num_epochs):
        stream = batches(trainer.learner, train, (settings.seed, epoch))
        train_epoch(trainer, stream, progress, len(train), lambda p: losses.append(p["loss"]))
        progress.epoch, progress.step = epoch + 1, 0
    return trainer, losses


@pytest.mark.parametrize("kind", ["ranker", "retrieval"])
def test_loss_falls(kind, prepared):
    """Two epochs over the same batches lower the training loss."""
    _, losses = run(config(kind), prepared, num_epochs=2)

    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


EVERYTHING = {"table_optimizer": "rowwise_adagrad", "matrix_optimizer": "muon", "ema_decay": 0.9}


@pytest.mark.parametrize("kind", ["ranker", "retrieval"])
@pytest.mark.parametrize(("optim", "accumulate"), [({}, 1), (EVERYTHING, 2)])
def test_resumed_equals_uninterrupted(kind, optim, accumulate, prepared):
    """Weights and losses after a stop in mid-epoch equal those without it, to the bit."""
    settings = config(kind, optim, accumulate=accumulate)
    train = tables(prepared, settings.batch_size)[: 12 * accumulate]

    def go_on(trainer: Trainer, progress: Progress, losses: list[float], until: int) -> None:
        skip = progress.step * accumulate
        stream = batches(trainer.learner, train, (settings.seed, 0), skip)
        train_epoch(trainer, stream, progress, until, lambda parts: losses.append(parts["loss"]))

    num_steps = len(train) // accumulate
    straight, expected = start(settings, prepared, num_steps), []
    go_on(straight, Progress(), expected, num_steps)
    killed, progress, losses = start(settings, prepared, num_steps), Progress(), []
    go_on(killed, progress, losses, 7)
    resumed = start(settings, prepared, num_steps)
    resumed.load_state_dict(*copy.deepcopy((killed.weights(), killed.state_dict())))
    go_on(resumed, Progress(**vars(progress)), losses, num_steps)

    assert losses == expected
    for theirs, ours in (
        (straight.weights(), resumed.weights()),
        (straight.learner.model.state_dict(), resumed.learner.model.state_dict()),
    ):
        for name, weight in theirs.items():
            assert torch.equal(weight, ours[name]), name


def test_evaluation_changes_nothing(prepared):
    """Held-out evaluation leaves the weights alone and repeats to the bit."""
    settings = config("ranker")
    trainer, _ = run(settings, prepared, num_epochs=1)
    before = copy.deepcopy(trainer.learner.model.state_dict())
    held_out = tables(prepared, 16)[:3]

    first, second = (trainer.evaluate(batches(trainer.learner, held_out, (0,))) for _ in range(2))

    assert first == second
    assert first["loss"][1] > 0
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
    with pytest.raises(ValueError, match="positives: 'clik' is none of"):
        make_learner(RetrievalLearning(positives=("clik",)), prepared)


def test_positive_that_never_happens_is_refused(prepared, tmp_path):
    """An action that the training split does not hold is named before any step is made."""
    train = tmp_path / "examples" / "split=train"
    train.mkdir(parents=True)
    rows = pq.read_table(prepared / "examples" / "split=train", partitioning=None)
    nothing = pa.array([[0] * len(did) for did in rows["did"].to_pylist()], rows["did"].type)
    pq.write_table(rows.set_column(rows.schema.get_field_index("did"), "did", nothing), train / "p")
    for name in ("posts.parquet", "users.parquet", "manifest.json"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes())

    with pytest.raises(ValueError, match=r"no click in the training split; .*learning\.positives"):
        make_learner(RetrievalLearning(), tmp_path)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("r*/*.yaml")), ids=str)
def test_shipped_configs_build(path, prepared, tmp_path):
    """Every shipped run, also those of the studies, resolves and builds its model."""
    runs = shipped_runs(path)
    if any(run.learning.model.features.content_size for run in runs):
        prepared = with_texts(prepared, tmp_path / "texts")

    assert runs
    for run in runs:
        assert (path.parent.name == "ranker") == isinstance(run.learning, RankerLearning)
        assert make_learner(run.learning, prepared).model.config == run.learning.model


def shipped_runs(path: Path) -> list[TrainConfig]:
    """The run of a file, or all those of the study that it is."""
    kind = study_kind(str(path))
    if kind is None:
        return [load(path, TrainConfig)]
    study = load(path, STUDIES[kind][0])
    if kind == "ranking":
        return [study.run]
    parts = [study.next_item] if study.next_item else []
    runs = [part.run for part in (*parts, *study.next_visits.values())]
    if study.prefix_towers:
        of_text = runs_of("world", SIZE, study.prefix_towers.content)
        runs += [of_text[f"{step}-towers"] for step in TOWERS]
    return runs

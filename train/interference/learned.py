"""What the product's own models learn from ratings: vectors of two towers, scores of a ranker.

Plain torch in this process; the learners, the loss and the step are those of `train`.

Axes: n ratings, V viewers, C candidates, P posts, F numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from pipelines.features import FeatureSpec
from train.interference.prepared import CLICK, examples, write
from train.interference.ratings import Floats, Ratings
from train.interference.split import Split
from train.learners import (
    Learner,
    NextEventLearner,
    NextEventLearning,
    RankerLearning,
    make_learner,
)
from train.loop import TrainConfig, Trainer
from train.models.layers import TransformerConfig
from train.models.likeness import LikenessConfig
from train.models.ranker import RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower
from train.optim import OptimConfig

_SCORED = 50  # viewers in one pass


class TowersRun(TrainConfig):
    """Two small towers: half a minute of a core on a million ratings."""

    name: str = "towers"
    batch_size: PositiveInt = 32
    num_epochs: PositiveInt = 5
    max_steps: PositiveInt | None = 400
    optim: OptimConfig = OptimConfig(lr=2e-3, table_lr=5e-3)
    learning: NextEventLearning = NextEventLearning(
        warm_start=True,
        num_negatives=512,
        rows_at_once=8,
        model=RetrievalConfig(
            emb_size=32,
            pooling="last",
            temperature=0.05,
            transformer=TransformerConfig(num_layers=1, dropout=0.2),
            features=FeatureSpec(
                history_len=64,
                user_vocab=2,  # one row for all: viewers are told apart by what they liked
                author_vocab=2,  # nobody is known
                context=False,
                since=False,
                rates=False,
                user_features=False,
            ),
        ),
    )


class PhoenixRun(TrainConfig):
    """A small ranker: ten seconds of a core."""

    name: str = "phoenix"
    batch_size: PositiveInt = 16
    num_epochs: PositiveInt = 8
    patience: PositiveInt | None = 3
    optim: OptimConfig = OptimConfig(lr=6e-3, warmup_steps=20)
    learning: RankerLearning = RankerLearning(
        model=RankerConfig(
            emb_size=32,
            transformer=TransformerConfig(num_layers=1, key_size=16, dropout=0.1),
            # Without tables of ids: 1,800 liked posts teach a table nothing but chance.
            features=FeatureSpec(
                ids=False, history_len=64, context=False, since=False, user_features=False
            ),
        )
    )


def towers(ratings: Ratings, train: NDArray[np.bool_], run: TowersRun) -> NDArray[np.float32]:
    """Unit vectors of posts by two towers that learn what is liked next. [P, F].

    Args:
        ratings: of the set.
        train: rows that are learned from. [n].
        run: of the towers.
    """
    with _prepared(ratings, train, None, run) as (learner, data):
        rows = pq.read_table(data / run.learning.trained_on)
        num_batches = -(-len(rows) // run.batch_size)
        trainer = Trainer(run, learner, run.num_steps(num_batches))
        for epoch in range(run.num_epochs):
            _epoch(trainer, rows, epoch, num_batches)
    assert isinstance(learner, NextEventLearner)
    assert isinstance(learner.model, TwoTower)
    with torch.inference_mode():
        return learner.model.eval().posts(learner.pool).numpy()


def ranker_scores(
    ratings: Ratings,
    vectors: NDArray,
    learn: Split,
    stops: NDArray[np.bool_],
    tests: Split,
    run: PhoenixRun,
    likeness: LikenessConfig | None,
) -> Floats:
    """Log-odds of a click on each of the test's candidates by a Phoenix ranker. [V, C].

    The weights are those of the epoch that is best on the viewers who say when to stop.

    Args:
        ratings: of the set.
        vectors: what the ranker reads as vectors of text. [P, F].
        learn: whose candidates it learns from.
        stops: viewers of `learn` that it does not learn from, but stops by. [V].
        tests: whose candidates are scored.
        run: of the ranker; its content_size and likeness are set here.
        likeness: what the ranker reads beside.
    """
    model = run.learning.model
    spec = model.features.model_copy(update={"content_size": vectors.shape[1]})
    model = model.model_copy(update={"features": spec, "likeness": likeness})
    settings = run.learning.model_copy(update={"model": model})
    run = run.model_copy(update={"learning": settings})
    rows = examples(learn)
    with _prepared(ratings, learn.train, vectors, run) as (learner, _):
        _stopped(learner, rows.filter(pa.array(~stops)), rows.filter(pa.array(stops)), run)
    asked, found = examples(tests), []
    for first in range(0, len(asked), _SCORED):
        batch = learner.batch(asked.slice(first, _SCORED), np.random.default_rng(0))
        with torch.inference_mode():
            found.append(learner.model(batch)[..., CLICK].double().numpy())
    return np.concatenate(found)


def _stopped(learner: Learner, fit: pa.Table, held: pa.Table, run: TrainConfig) -> None:
    """Learn from rows, and keep the weights of the epoch that is best on the rows held out."""
    num_batches = -(-len(fit) // run.batch_size)
    trainer = Trainer(run, learner, run.num_steps(num_batches))
    validation = learner.batch(held, np.random.default_rng(0))
    losses: list[float] = []
    best: dict[str, Tensor] = {}
    for epoch in range(run.num_epochs):
        _epoch(trainer, fit, epoch, num_batches)
        total, weight = trainer.evaluate([validation])["loss"]
        losses.append(total / weight)
        if losses[-1] == min(losses):
            best = {name: value.clone() for name, value in trainer.weights().items()}
        if run.patience and epoch - int(np.argmin(losses)) >= run.patience:
            break
    learner.model.load_state_dict(best)
    learner.model.eval()


def _epoch(trainer: Trainer, rows: pa.Table, epoch: int, num_batches: int) -> None:
    """One pass over the rows in a random order, as far as the run has steps left."""
    rng = np.random.default_rng([trainer.config.seed, epoch])
    trainer.learner.model.train()
    parts = np.array_split(rng.permutation(len(rows)), num_batches)
    for step, chosen in enumerate(parts, epoch * num_batches):
        if step < trainer.num_steps:
            trainer.step(trainer.learner.batch(rows.take(chosen), rng), step)


@contextmanager
def _prepared(
    ratings: Ratings, train: NDArray[np.bool_], vectors: NDArray | None, run: TrainConfig
) -> Iterator[tuple[Learner, Path]]:
    """A learner of ratings written as prepared data; torch's generator starts from the seed."""
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        write(Path(folder), ratings, train, vectors)
        yield make_learner(run.learning, Path(folder)), Path(folder)

"""A ranker of a small made-up world, verified from its outputs alone.

The world's planted rules make the log and are never read again: what is asked is the model's. It
is trained in this process, by the steps of `train.loop` without Ray, so that the bar can be held
wherever the code runs; `train.preference.verify` asks the same of any bundle.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from configs import Config, check
from pipelines.data.job import DataConfig, prepare
from pipelines.data.synthetic import SyntheticConfig, World
from pipelines.facts import Facts
from pipelines.prepared import read_manifest
from pipelines.schema import SPLITS
from train.bundle.tables import observed_actions
from train.learners import make_learner
from train.loop import TrainConfig, Trainer, batches
from train.models.ranker import Ranker
from train.preference.counterfactuals import Posts
from train.preference.verification import verification
from train.preference.verify import ask
from train.rows import Past, read_examples
from train.runs import resolve

SHAPE = {"num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "key_size": 16}
SPLIT_DAYS = (12, 13)  # of fourteen: the first to validate on, the first to test on


class WorldRun(Config):
    """A made-up world, and the ranker that is trained on it."""

    world: SyntheticConfig = SyntheticConfig(
        num_users=1_000, num_authors=200, num_posts=8_000, num_events=300_000
    )
    emb_size: PositiveInt = 32
    num_epochs: PositiveInt = 1
    batch_size: PositiveInt = 64
    # Of weights and of the order of examples.
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2), min_length=1)
    num_viewers: PositiveInt = 300  # asked what a block would change, at most

    @field_validator("world")
    @classmethod
    def _lasts_until_the_test(cls, world: SyntheticConfig) -> SyntheticConfig:
        if world.num_days <= SPLIT_DAYS[1]:
            raise ValueError(
                f"num_days: {world.num_days:g}: the test begins after {SPLIT_DAYS[1]} days "
                f"(allowed: more)"
            )
        return world


def verified(run: WorldRun) -> tuple[dict[str, Any], str]:
    """Train a ranker a seed, and verify each on the last day.

    Returns:
        visits asked about, and by seed what `verification` finds; and the fingerprint of the data.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = _prepared(run.world, Path(folder))
        manifest = read_manifest(data)
        examples, past = read_examples(data, "test"), Past.of(read_examples(data, *SPLITS))
        posts = Posts.of(pq.read_table(data / "posts.parquet"))
        facts = Facts.load(data)
        observed = observed_actions(data, manifest["actions"])
        found = {}
        for seed in run.seeds:
            predict = partial(ask, _trained(run, data, seed), facts)
            found[str(seed)] = verification(
                predict, observed, examples, past, posts, run.num_viewers
            )
    return {"visits": len(examples), "seeds": found}, manifest["fingerprint"][:12]


def _prepared(world: SyntheticConfig, folder: Path) -> Path:
    World.make(world).write(folder / "log")
    begin = datetime.fromtimestamp(world.start_ms / 1_000, UTC).date()
    validate, test = (begin + timedelta(days=day) for day in SPLIT_DAYS)
    tables = {name: str(folder / "log" / name) for name in ("events", "posts", "users", "follows")}
    values = {
        "name": "world",
        "out": str(folder / "data"),
        "reader": {"name": "logs", **tables},
        "split": {"validate_from": validate, "test_from": test},
    }
    prepare(check(values, DataConfig, place="train.preference.world"))
    return folder / "data"


def _trained(run: WorldRun, data: Path, seed: int) -> Ranker:
    model = {"emb_size": run.emb_size, "transformer": SHAPE}
    values = {
        "name": "world",
        "data": str(data),
        "seed": seed,
        "batch_size": run.batch_size,
        "num_epochs": run.num_epochs,
        "learning": {"kind": "ranker", "model": model},
    }
    config = resolve(check(values, TrainConfig, place="train.preference.world"), data)
    rows = pq.read_table(data / "examples" / "split=train", partitioning=None)
    steps, size = len(rows) // config.batch_size, config.batch_size
    torch.manual_seed(seed)
    learner = make_learner(config.learning, data)
    trainer, step = Trainer(config, learner, config.num_steps(steps)), 0
    for epoch in range(config.num_epochs):
        order = np.random.default_rng((seed, epoch)).permutation(len(rows))
        parts = (rows.take(order[at * size : (at + 1) * size]) for at in range(steps))
        for batch in batches(learner, parts, (seed, epoch, 0)):
            trainer.step(batch, step)
            step += 1
    assert isinstance(learner.model, Ranker)
    return learner.model.eval()

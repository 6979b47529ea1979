"""A run that takes a second, without Ray."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from configs import check
from train.learners import make_learner
from train.loop import TrainConfig, Trainer

SMALL = {"history_len": 8, "user_vocab": 500, "post_vocab": 500, "author_vocab": 200}
SHAPE = {"num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "key_size": 8}
MODEL = {"emb_size": 16, "transformer": SHAPE, "features": SMALL}


def config(kind: str, optim: dict | None = None, **settings: object) -> TrainConfig:
    """The run's settings; `settings` are TrainConfig's, with those of `learning` merged."""
    learning = {"kind": kind, "model": MODEL} | settings.pop("learning", {})
    values = {"name": "t", "batch_size": 16, "optim": {"warmup_steps": 5} | (optim or {})}
    return check(values | settings | {"learning": learning}, TrainConfig, place="test")


def tables(data: Path, batch_size: int) -> list[pa.Table]:
    """The first twenty batches of the training split."""
    rows = pq.read_table(data / "examples" / "split=train", partitioning=None)
    return [rows.slice(at * batch_size, batch_size) for at in range(20)]


def start(settings: TrainConfig, data: Path, num_steps: int = 20) -> Trainer:
    """A trainer whose weights depend on the settings alone."""
    torch.manual_seed(settings.seed)
    return Trainer(settings, make_learner(settings.learning, data), num_steps)

"""One small made-up world, its prepared data and a bundle of untrained models on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from configs import check
from pipelines.data.job import DataConfig, prepare
from pipelines.data.synthetic import SyntheticConfig, World
from train.bundle import Bundle, load
from train.bundle.writing import write
from train.learners import make_learner
from train.loop import TrainConfig
from train.runs import MODEL, new_run, resolve

settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")

SPEC = {"history_len": 8, "user_vocab": 500, "post_vocab": 1500, "author_vocab": 200}
SHAPE = {"num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "key_size": 8}
SMALL_MODEL = {"emb_size": 16, "transformer": SHAPE, "features": SPEC}


NUM_USERS = 150
UNKNOWN_USER = 10_000


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small models run faster on one torch thread, and the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world() -> World:
    """150 viewers, thirty authors, 800 posts, two weeks."""
    return World.make(
        SyntheticConfig(num_users=NUM_USERS, num_authors=30, num_posts=800, num_events=8_000)
    )


@pytest.fixture(scope="session")
def prepared(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's log as the data job writes it."""
    folder = tmp_path_factory.mktemp("prepared")
    world.write(folder / "log")
    return prepare_world(folder / "log", folder / "data")


@pytest.fixture(scope="session")
def bundle_path(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle of untrained models."""
    return write_bundle(prepared, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    """The same, loaded."""
    return load(bundle_path)


def data_config(log: Path, out: Path, **reader: object) -> DataConfig:
    """Prepare a written world: the last days validate and test."""
    values = {
        "name": "world",
        "out": str(out),
        "reader": {"name": "logs", **reader}
        | {t: str(log / t) for t in ("events", "posts", "users", "follows")},
        "split": {"validate_from": date(2026, 1, 11), "test_from": date(2026, 1, 12)},
    }
    return check(values, DataConfig, place="tests")


def prepare_world(log: Path, out: Path) -> Path:
    """Prepare a written world in this process; returns `out`."""
    prepare(data_config(log, out))
    return out


def train_config(kind: str, data: Path, out: Path, **settings: object) -> TrainConfig:
    """A run of a model that takes seconds."""
    learning = {"kind": kind, "model": SMALL_MODEL}
    values = {"name": kind, "data": str(data), "out": str(out), "learning": learning, **settings}
    return check(values, TrainConfig, place="tests")


def write_run(kind: str, data: Path, out: Path, seed: int = 0) -> Path:
    """What python -m train leaves behind, with untrained weights; returns its folder."""
    return write_untrained(train_config(kind, data, out, seed=seed), data)


def write_untrained(config: TrainConfig, data: Path) -> Path:
    """The same for any settings."""
    config = resolve(config, data)
    torch.manual_seed(config.seed)
    story = {"epochs": [{"loss": 0.5}, {"loss": 0.4}], "total_steps": 20, "skipped_steps": 0}
    with new_run(config, story) as folder:
        save_file(make_learner(config.learning, data).model.state_dict(), folder / MODEL)
    return Path(config.out) / config.name


def write_untrained_seeds(
    run: TrainConfig, data: Path, seeds: Sequence[int], out: Path
) -> list[Path]:
    """What `train.studies.seeds.fit_seeds` returns, without any training."""
    changed = [
        {"name": f"{run.name}-{seed}", "seed": seed, "out": str(out), "data": str(data)}
        for seed in seeds
    ]
    return [write_untrained(run.model_copy(update=settings), data) for settings in changed]


def write_bundle(data: Path, folder: Path, seed: int = 0, prefix: Path | None = None) -> Path:
    """Write `folder/bundle` of untrained models; another seed gives other models."""
    retrieval, ranker = (write_run(kind, data, folder, seed) for kind in ("retrieval", "ranker"))
    write(retrieval, ranker, data, folder / "bundle", prefix=prefix)
    return folder / "bundle"

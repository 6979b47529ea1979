"""Trained heads as folders: a named condition on a set of texts, one run a seed.

model.safetensors    weights of the epoch that was kept
config.json          settings, those of the head among them
result.json          loss and scores of each epoch, and what the run was made from
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from safetensors.torch import load_file, save_file

from configs import Config, check
from pipelines.whole import new_folder, save_json
from train import git
from train.models.prefix import Head, PrefixConfig, make_head
from train.prefix import fan_out
from train.prefix.features import PooledConfig, features, fingerprint
from train.prefix.labelled import Sizes, draw, shortened
from train.prefix.objectives import FitConfig, changed
from train.prefix.readers import read
from train.prefix.training import fit_head
from train.runs import CONFIG, MODEL, RESULT, RunError, read_run

_log = logging.getLogger(__name__)


class PrefixRuns(Config):
    """Runs of one condition; one YAML file in configs/prefix/."""

    study: Literal["prefix"] = "prefix"
    name: str = Field(pattern=r"^[\w.-]+$")
    texts: str  # a set of train/prefix/readers
    downloads: str = "artifacts/downloads/v5"  # folder of the sets' files
    sizes: Sizes = Sizes()
    encode: PooledConfig = PooledConfig()
    condition: str = "own"  # see train/prefix/objectives.py
    fit: dict[str, Any] = Field(default={})  # what differs from the condition's settings
    seeds: tuple[int, ...] = Field(default=(42, 123, 456, 789, 1024), min_length=1)
    out: str = "artifacts/runs"

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)}: a seed twice is one run, not two")
        return seeds


@dataclass(frozen=True)
class RunData:
    """What all seeds are trained from.

    Attributes:
        features: float32 [N, E].
        labels: int64 [N, L].
        test: the public split, bool [N]; None = there is none.
        fingerprint: of all that.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_] | None
    fingerprint: str


def train_heads(config: PrefixRuns) -> Path:
    """Train the seeds that are not there yet, as tasks of a Ray cluster.

    Returns:
        `<out>/<name>`, with a folder CONDITION-SEED for each.

    Raises:
        InputError: the set's file or the encoder is missing; the text says what to fetch.
        ConfigError: no such set, condition or setting.
    """
    texts = shortened(read(config.texts, Path(config.downloads)), config.sizes)
    fit = fit_settings(config, texts.labels.shape[1])
    vectors = features(texts, config.encode)
    data = RunData(vectors, texts.labels, texts.test, fingerprint(texts, vectors))
    folder = Path(config.out).resolve() / config.name
    wanted = {seed: folder / f"{fit.condition}-{seed}" for seed in config.seeds}
    missing = {s: f for s, f in wanted.items() if not is_run(f, settings(config, fit, s), data)}
    for seed in wanted.keys() - missing.keys():
        _log.warning("%s: reused", wanted[seed])
    if missing:
        shared = fan_out.put(data)
        calls = [(path, settings(config, fit, s), fit, shared) for s, path in missing.items()]
        names = [path.name for path in missing.values()]
        for _ in fan_out.over_cluster(train_one, calls, [fit.device] * len(calls), names):
            pass
    return folder


def fit_settings(config: PrefixRuns, num_levels: int) -> FitConfig:
    """The condition's settings with the changes of `config`.

    Raises:
        ConfigError: no such setting.
        ValueError: no such condition.
    """
    return changed(config.condition, num_levels, config.fit, place=f"{config.name}: fit")


def settings(config: PrefixRuns, fit: FitConfig, seed: int) -> dict[str, Any]:
    """What one run is made by, as its config.json says it, without the head's shape."""
    values = {
        "kind": "prefix",
        "texts": config.texts,
        "sizes": config.sizes.model_dump(mode="json"),
        "encoder": config.encode.encoder.model_dump(mode="json"),
        "fit": fit.model_dump(mode="json"),
        "seed": seed,
    }
    return json.loads(json.dumps(values))


def is_run(folder: Path, made_by: Mapping[str, Any], data: RunData) -> bool:
    """Whether `folder` is a finished run of just these settings on just these data."""
    try:
        said, story = read_run(folder)
    except RunError:
        return False
    same = all(said.get(key) == value for key, value in made_by.items())
    return same and story.get("data_fingerprint") == data.fingerprint


def train_one(
    folder: Path, made_by: Mapping[str, Any], fit: FitConfig, data: RunData
) -> dict[str, Any]:
    """Train one seed into `folder`; returns what its result.json says."""
    torch.set_num_threads(1)
    seed, sizes = made_by["seed"], Sizes.model_validate(made_by["sizes"])
    rows = draw(data.test, len(data.labels), sizes, seed).train
    head = fit_head(data.features[rows], data.labels[rows], fit, seed)
    story = {
        "epochs": head.epochs,
        "kept_epoch": head.kept,
        "num_train": len(rows) - len(head.validation),
        "num_validation": len(head.validation),
        "seconds": head.seconds,
        "data_fingerprint": data.fingerprint,
        "git_commit": git.commit(),
    }
    with new_folder(folder) as made:
        save_file(head.head.state_dict(), made / MODEL)
        save_json(made / CONFIG, {**made_by, "head": head.shape.model_dump(mode="json")})
        save_json(made / RESULT, story)
    return story


def load_head(folder: Path) -> Head:
    """The head of a finished run, in evaluation mode.

    Raises:
        RunError: there is none.
    """
    said, _ = read_run(folder)
    if said.get("kind") != "prefix":
        raise RunError(f"{folder}: a run of another kind, expected prefix")
    head = make_head(check(said["head"], PrefixConfig, place=str(folder / CONFIG)))
    head.load_state_dict(load_file(folder / MODEL))
    return head.eval()

"""What studies have in common: prepared data, a run for each seed, mean and spread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from configs import ConfigError, check, load
from pipelines.data.job import DataConfig, prepare
from pipelines.data.reader import InputError
from pipelines.data.spread import over_ray
from pipelines.prepared import is_prepared
from pipelines.runtime import connect
from train.compare import with_spread
from train.learners import make_learner
from train.loop import TrainConfig
from train.runs import MODEL, RunError, origin, read_run, resolve
from train.worker import fit

Results = dict[str, Any]
_log = logging.getLogger(__name__)


def prepared(config: str) -> Path:
    """The folder of a data set, prepared first if it is not there.

    Args:
        config: a file of configs/data/.

    Raises:
        InputError: its input is missing or wrong; the text says what to fetch.
    """
    settings = load(config, DataConfig)
    if not is_prepared(settings.folder):
        connect()
        prepare(settings, over_ray)
    return settings.folder


def fit_seeds(run: TrainConfig, data: Path, seeds: Sequence[int]) -> list[Path]:
    """Train once per seed, as NAME-SEED; a run that is finished already is taken as it is."""
    return [_fit_once(run, data, seed) for seed in seeds]


def _fit_once(run: TrainConfig, data: Path, seed: int) -> Path:
    data = data.resolve()  # as `fit` writes it down
    changed = {"name": f"{run.name}-{seed}", "seed": seed, "data": str(data)}
    config = check(run.model_dump(mode="json") | changed, TrainConfig, place=run.name)
    wanted, folder = resolve(config, data), Path(config.out) / config.name
    try:
        settings, story = read_run(folder)
        made = check(settings, TrainConfig, place=str(folder))
    except (RunError, ConfigError):  # none there, or of settings that are no more
        return fit(config)
    if made == wanted and all(story.get(key) == value for key, value in origin(wanted).items()):
        _log.warning("%s: reused, as trained by %s", folder, story.get("git_commit", "unknown"))
        return folder
    return fit(config)


def each_data_set(configs: Iterable[str], of: Callable[[str], Results]) -> Results:
    """What `of` says of each file of configs/data/; of one whose data are missing, what to fetch.

    A missing one costs the others nothing, which may have been trained for hours.
    """
    results: Results = {}
    for config in configs:
        try:
            results |= of(config)
        except InputError as error:
            _log.warning("%s: left out: %s", config, error)
            results[Path(config).stem] = {"left_out": str(error)}
    return results


def stories(runs: Sequence[Path]) -> dict[str, Any]:
    """Name of each finished run -> how it went."""
    return {run.name: read_run(run)[1] for run in runs}


def load_run(run: Path, data: Path) -> nn.Module:
    """The model of a finished run, in evaluation mode.

    Args:
        run: as `fit_seeds` returns it.
        data: the prepared data that it was trained on.
    """
    settings, _ = read_run(run)
    config = check(settings, TrainConfig, place=str(run))
    model = make_learner(config.learning, data).model
    model.load_state_dict(load_file(run / MODEL))
    return model.eval()


def mean_and_spread(runs: Sequence[Results]) -> Results:
    """Results of equal shape, one per seed, as one: numbers become their mean.

    Beside each number `x` that differs between seeds stands `x_spread`, the standard deviation
    (n - 1); what is no number is taken from the first run.
    """
    first = runs[0]
    merged: Results = {}
    for key, value in first.items():
        values = [run[key] for run in runs]
        if isinstance(value, dict):
            merged[key] = mean_and_spread(values)
        elif isinstance(value, float) and not any(v is None for v in values):
            merged |= with_spread(key, values if len(set(values)) > 1 else values[:1])
        else:
            merged[key] = value
    return merged

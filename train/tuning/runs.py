"""Searches the settings of a training run: each trial is one `python -m train`, on Ray Tune.

Trials are judged on the validation split; the test split is never looked at. A setting that
changes what a measure means, such as learning.dwell_weight and val_loss, cannot be judged by it.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial
from ray import tune
from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from configs import Config, check, load, near_miss, parse_overrides
from pipelines.prepared import read_manifest
from pipelines.runtime import connect
from train.__main__ import study_kind
from train.loop import TrainConfig
from train.prefix.posts import PostsRun, fit_posts
from train.runs import read_run
from train.tuning.settings import RunSearch
from train.tuning.space import distributions, extremes, values
from train.tuning.study import StudyError, finished, note, opened
from train.worker import NOT_VALIDATED, fit

_TRIAL_BYTES = 1 << 20  # a trial must reserve something
_ALL = "measures"
Measured = dict[str, float]


def search(config: RunSearch, then: Callable[[Study], None] = lambda _: None) -> None:
    """Run the trials that are still to do.

    Args:
        config: of the search.
        then: what to do with the study at the end.

    Raises:
        ConfigError: a setting of the space or of `fixed` that the run does not have.
        StudyError: as `study.opened`, or a measure that the run does not have.
        RuntimeError: a trial failed.
    """
    base = base_run(config)
    if isinstance(base, PostsRun) and "val_loss" in config.objectives:
        raise StudyError(
            "objectives: a prefix head has no val_loss; name a measure of its held-out posts"
        )
    paths = {name: str(Path(getattr(base, name)).resolve()) for name in ("data", "out")}
    plain = base.model_dump(mode="json") | paths
    for drawn in extremes(config.space):  # a misspelt name or a wrong value stops here
        _settings(type(base), plain, drawn, config.name)
    made_of = {
        "settings_of_run": {k: v for k, v in plain.items() if k not in ("name", *paths)},
        "data_fingerprint": read_manifest(Path(paths["data"]))["fingerprint"],
    }
    with opened(config, made_of) as study:
        left = config.num_trials - len(finished(study))
        if left > 0:
            model = type(base)
            # A trial only waits for its workers, which reserve CPUs; a head is fitted in it.
            waits: dict[str, float] = {"CPU": 0, "memory": _TRIAL_BYTES}
            resources = {"CPU": 1.0} if model is PostsRun else waits
            trial = tune.with_resources(lambda d: _trial(model, plain, config, d), resources)
            _run(config, study, trial, left)
        then(study)


def base_run(config: RunSearch) -> TrainConfig | PostsRun:
    """The run that every trial starts from."""
    kinds: dict[str | None, type[TrainConfig] | type[PostsRun]] = {
        None: TrainConfig,
        "prefix_posts": PostsRun,
    }
    kind = study_kind(config.run)
    if kind not in kinds:
        raise StudyError(f"{config.run}: a study of many runs; a search needs one run")
    return load(config.run, kinds[kind], as_overrides(config.fixed))


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the command line takes them."""
    return [f"{name}={json.dumps(value)}" for name, value in settings.items()]


def best_command(config: RunSearch, best: FrozenTrial) -> str:
    """How to train the best trial's run again."""
    settings = config.fixed | values(config.space, best.params)
    return shlex.join(["python", "-m", "train", config.run, *as_overrides(settings)])


def scalars(validation: Mapping[str, Any], prefix: str = "") -> Measured:
    """Every number of a validation, those of groups as group.name."""
    found: Measured = {}
    for name, value in validation.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found


class BestSoFar(TuneReportCallback):
    """Tells Ray Tune after each validation of a run what the best one so far measured."""

    def __init__(self, objectives: Sequence[str]) -> None:
        """Tell these by name, and all others together."""
        super().__init__()
        self._objectives = tuple(objectives)
        self._best: Measured = {"val_loss": NOT_VALIDATED}

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Pass it on; a checkpoint in the middle of an epoch says nothing."""
        told = scalars(metrics[0])
        if told["val_loss"] < NOT_VALIDATED:
            self._best = min(self._best, told, key=lambda each: each["val_loss"])
            super().after_report(run_context, [_told(self._best, self._objectives)], None)


class _Search(OptunaSearch):
    """Ray's, which also writes down all that was measured, and what is out of bounds."""

    def __init__(self, config: RunSearch, study: Study) -> None:
        ways = ["max" if way == "maximize" else "min" for way in config.objectives.values()]
        names = list(config.objectives)
        alone = len(names) == 1
        super().__init__(
            space=distributions(config.space),
            metric=names[0] if alone else names,
            mode=ways[0] if alone else ways,
            sampler=study.sampler,
            study_name=config.name,
            storage=study._storage,
        )
        self._config = config

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note the measures first: afterwards the trial is closed."""
        if result and not error and trial_id not in self._completed_trials:
            measured = json.loads(result[_ALL])
            note(self._ot_trials[trial_id], self._config, measured, {})
        super().on_trial_complete(trial_id, result, error)


def _run(config: RunSearch, study: Study, trial: Any, left: int) -> None:
    names = list(config.objectives)
    scheduler = None
    if config.pruner == "asha":
        way = "max" if config.objectives[names[0]] == "maximize" else "min"
        scheduler = ASHAScheduler(metric=names[0], mode=way, grace_period=1, reduction_factor=3)
    connect()
    tuner = tune.Tuner(
        trial,
        tune_config=tune.TuneConfig(
            search_alg=_Search(config, study),
            scheduler=scheduler,
            num_samples=left,
            max_concurrent_trials=config.max_concurrent,
        ),
        run_config=tune.RunConfig(
            name=config.name, storage_path=str((config.folder / "ray").resolve())
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise RuntimeError(f"{config.name}: a trial failed: {results.errors[0]}")


def _trial(
    model: type[TrainConfig] | type[PostsRun],
    plain: dict[str, Any],
    search: RunSearch,
    drawn: dict[str, Any],
) -> None:
    """One run; its folder is named by its settings, so that a run that was cut short goes on."""
    settings, objectives = values(search.space, drawn), list(search.objectives)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    config = _settings(model, plain, settings, f"{search.name}-{digest}")
    if isinstance(config, PostsRun):
        held_out = read_run(fit_posts(config))[1]["held_out"]
        tune.report(_told(scalars(held_out), objectives))
        return
    assert isinstance(config, TrainConfig)
    _, story = read_run(fit(config, callbacks=[BestSoFar(objectives)]))
    best = min(story["epochs"], key=lambda epoch: epoch["loss"])
    tune.report(_told(scalars(best) | {"val_loss": best["loss"]}, objectives))


def _told(measured: Measured, objectives: Sequence[str]) -> dict[str, Any]:
    """What Ray Tune is told: it prints every number, so all but the objectives are one text.

    Raises:
        StudyError: an objective was not measured.
    """
    for name in objectives:
        if name not in measured:
            raise StudyError(f"objectives.{name}: not measured{near_miss(name, measured)}")
    return {**{name: measured[name] for name in objectives}, _ALL: json.dumps(measured)}


def _settings(
    model: type[Config], plain: dict[str, Any], drawn: Mapping[str, Any], name: str
) -> Config:
    """The run with what a trial drew."""
    merged = parse_overrides(as_overrides(drawn), onto=plain | {"name": name})
    return check(merged, model, place="space")

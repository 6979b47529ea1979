"""`python -m train.tune CONFIG [key=value ...]`: search settings of a run with Optuna on Ray.

Each trial is one `python -m train`, judged by its lowest validation loss; the test
split is never looked at. A setting that changes what the loss means, such as
learning.dwell_weight, cannot be judged by it. Trials run side by side as far as the
cluster has room.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from configs import Config, check, load, parse_overrides
from pipelines.runtime import connect
from pipelines.whole import save_json
from train.loop import TrainConfig
from train.runs import read_run
from train.worker import fit

# A trial only waits for its workers, which reserve their own CPUs. It must reserve something.
_TRIAL_BYTES = 1 << 20


class Range(Config):
    """Numbers from `low` to `high`."""

    low: float
    high: float
    scale: Literal["linear", "log", "integer"] = "linear"

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.scale == "log" and self.low <= 0):
            raise ValueError(
                f"low {self.low} and high {self.high}: need low < high, 0 < low if log"
            )
        return self

    def domain(self) -> Any:
        """The same as Ray Tune knows it."""
        if self.scale == "integer":
            return tune.randint(int(self.low), int(self.high) + 1)
        return (tune.loguniform if self.scale == "log" else tune.uniform)(self.low, self.high)


class Choice(Config):
    """One of several values."""

    choices: list[Any] = Field(min_length=2)

    def domain(self) -> Any:
        """The same as Ray Tune knows it."""
        return tune.choice(self.choices)


class TuneConfig(Config):
    """One search; one YAML file in configs/tune/."""

    name: str
    run: str  # the run to tune: a file of configs/ranker/ or configs/retrieval/
    fixed: dict[str, Any] = Field(
        default={}
    )  # settings of the run that every trial shares, as a.b: value
    space: dict[str, Range | Choice] = Field(min_length=1)  # settings to search, as a.b
    num_trials: PositiveInt = 10
    # A trial needs its workers' CPUs and one more to read data; more trials than that fits
    # would wait for each other for ever.
    max_concurrent: PositiveInt = 1
    seed: int = 0


def search(config: TuneConfig) -> list[dict[str, Any]]:
    """Run all trials.

    Returns:
        One entry per trial, best first: its settings and "val_loss".

    Raises:
        ConfigError: a setting of the space or of `fixed` that the run does not have.
        RuntimeError: a trial failed.
    """
    base = _base(config)
    paths = {name: str(Path(getattr(base, name)).resolve()) for name in ("data", "out")}
    values = base.model_dump(mode="json") | paths
    domains = {name: where.domain() for name, where in config.space.items()}
    sample = {name: domain.sample() for name, domain in domains.items()}
    _settings(values, sample, config.name)  # a misspelt name stops here, not in every trial

    name = config.name  # trials are sent to other processes, which need not know TuneConfig

    def trial(drawn: dict[str, Any]) -> None:
        settings = _settings(values, drawn, f"{name}-{tune.get_context().get_trial_id()}")
        _, story = read_run(fit(settings))
        tune.report({"val_loss": min(epoch["loss"] for epoch in story["epochs"])})

    connect()
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0, "memory": _TRIAL_BYTES}),
        param_space=domains,
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            search_alg=OptunaSearch(seed=config.seed),
            num_samples=config.num_trials,
            max_concurrent_trials=config.max_concurrent,
        ),
        run_config=tune.RunConfig(name=config.name, storage_path=str(Path(paths["out"]) / "tune")),
    )
    results = tuner.fit()
    if results.errors:
        raise RuntimeError(f"{config.name}: a trial failed: {results.errors[0]}")
    trials = [
        {"val_loss": result.metrics["val_loss"], **result.config}
        for result in (results[at] for at in range(len(results)))
        if result.metrics and result.config
    ]
    return sorted(trials, key=lambda entry: entry["val_loss"])


def _base(config: TuneConfig) -> TrainConfig:
    """The run that every trial starts from."""
    return load(config.run, TrainConfig, _as_overrides(config.fixed))


def _as_overrides(settings: dict[str, Any]) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in settings.items()]


def _settings(values: dict[str, Any], drawn: dict[str, Any], name: str) -> TrainConfig:
    """The run with what a trial drew."""
    merged = parse_overrides(_as_overrides(drawn), onto=values | {"name": name})
    return check(merged, TrainConfig, place="space")


def main() -> int:
    """Search, write all trials beside the runs, print the best and how to train it."""
    parser = argparse.ArgumentParser(prog="python -m train.tune", description=__doc__)
    parser.add_argument("config", help="a file of configs/tune/")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_args()
    try:
        config = load(args.config, TuneConfig, args.overrides)
        trials = search(config)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    out = Path(_base(config).out) / "tune" / config.name / "trials.json"
    save_json(out, trials)
    for entry in trials:
        print("  ".join(f"{name} {value:.4g}" for name, value in entry.items()))
    best = {name: value for name, value in trials[0].items() if name != "val_loss"}
    settings = " ".join(_as_overrides(config.fixed | best))
    print(f"{out}: all trials\nbest: python -m train {config.run} {settings}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

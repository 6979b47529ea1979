"""A search over a prefix head's settings: Optuna as it is, trials in this process without Ray."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from optuna.study import Study

from configs import ConfigError, check
from tests.serve.prefix_data import FIT, with_texts
from train import __main__ as train
from train import tune
from train.prefix.posts import PostsRun, fit_posts
from train.runs import read_run
from train.tuning import runs
from train.tuning.results import SUMMARY, TRIALS
from train.tuning.settings import RunSearch
from train.tuning.space import distributions
from train.tuning.study import StudyError, note

SPACE = {
    "fit.lr": {"low": 1e-4, "high": 1e-2, "scale": "log"},
    "fit.block_sizes": {"choices": [[8, 4], [8, 8, 8]]},
}
BEST = "coarse_8"


@pytest.fixture(scope="module")
def data(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world with planted texts."""
    return with_texts(prepared, tmp_path_factory.mktemp("heads") / "data")


@pytest.fixture
def search_of(data: Path, tmp_path: Path) -> Callable[..., RunSearch]:
    """Makes the settings of a search over a head that is fitted in one epoch."""
    fit = FIT.model_copy(update={"num_epochs": 1})
    run = PostsRun(data=str(data), out=str(tmp_path / "runs"), fit=fit, seed=3)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))

    def make(**settings: Any) -> RunSearch:
        values = {
            "name": "heads",
            "out": str(tmp_path / "tune"),
            "run": str(tmp_path / "run.yaml"),
            "space": SPACE,
            "objectives": {BEST: "maximize"},
            "fixed": {"fit.weight_decay": 0.02},
        }
        return check(values | settings, RunSearch, place="test")

    return make


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[PostsRun]:
    """What is fitted; trials run one after the other in Ray Tune's place."""
    fitted: list[PostsRun] = []
    told: list[dict[str, Any]] = []

    def fit(run: PostsRun) -> Path:
        fitted.append(run)
        return fit_posts(run)

    def run(config: RunSearch, study: Study, trial: Callable[[Any], None], left: int) -> None:
        for _ in range(left):
            asked = study.ask(distributions(config.space))
            trial(asked.params)
            measured = json.loads(told[-1]["measures"])
            study.tell(asked, note(asked, config, measured, {}))

    monkeypatch.setattr(runs, "fit_posts", fit)
    monkeypatch.setattr(runs.tune, "report", told.append)
    monkeypatch.setattr(runs, "_run", run)
    return fitted


def trials(config: RunSearch) -> pl.DataFrame:
    """What the search left."""
    return pl.read_parquet(config.folder / TRIALS)


def by_hand(command: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, float]:
    """Held-out measures of the run that a printed command makes."""
    python, _, module, *arguments = shlex.split(command)
    assert (python, module) == ("python", "train")
    monkeypatch.setattr(sys, "argv", ["train", *arguments, *more])
    assert train.main() == 0
    name = next(value.removeprefix("name=") for value in more if value.startswith("name="))
    out = Path(yaml.safe_load(Path(arguments[0]).read_text())["out"])
    return read_run(out / name)[1]["held_out"]


def test_a_trial_is_worth_what_the_run_by_hand_is(search_of, fits, monkeypatch, capsys):
    """The command that is printed and stands in the summary makes the best trial's very numbers."""
    config = search_of(num_trials=3)
    tune.tune_run(config)
    found = trials(config)
    best = found.sort(f"measure.{BEST}", descending=True, maintain_order=True).row(0, named=True)
    printed = next(
        line.removeprefix("best: ")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("best: ")
    )

    assert printed in (config.folder / SUMMARY).read_text()
    measured = by_hand(printed, monkeypatch, "name=by-hand")
    told = {name: best[f"measure.{name}"] for name in measured}
    assert told == measured
    assert {(run.seed, run.fit.weight_decay) for run in fits} == {(3, 0.02)}
    assert found["fit.lr"].n_unique() == 3


def test_a_search_goes_on_and_repeats_nothing(search_of, fits, monkeypatch):
    """What was finished stands; what was under way when the tuner died is tried again first."""
    tune.tune_run(search_of(num_trials=2))
    first = trials(search_of())
    done = [run.fit for run in fits]

    def die(_: PostsRun) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "fit_posts", lambda run: fits.append(run) or die(run))
        with pytest.raises(KeyboardInterrupt):
            tune.tune_run(search_of(num_trials=3))
    tune.tune_run(search_of(num_trials=3))
    later = trials(search_of())

    cut_short, again = (run.fit for run in fits[2:])
    assert again == cut_short
    assert again not in done
    assert later[:2].equals(first.select(later.columns))
    assert later["state"].to_list() == ["complete", "complete", "fail", "complete"]
    tune.tune_run(search_of(num_trials=3))
    assert len(fits) == 4


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"fit.lrr": {"low": 0.1, "high": 0.2}}, "fit.lrr: no such setting; did you mean 'lr'"),
        ({"fit.lr": {"low": -0.1, "high": 1.0}}, "fit.lr: Input should be greater than 0"),
        ({"fit.block_sizes": {"choices": [[8, 8], [8, 4], [8, 0]]}}, "fit.block_sizes.1"),
        ({"held_out": {"low": 0.1, "high": 1.0}}, "held_out: Input should be less than 1"),
    ],
)
def test_all_of_the_space_is_checked_first(search_of, fits, space, said):
    """A name that there is not, an end of a range, any of the choices: before the first trial."""
    config = search_of(space=space)
    with pytest.raises(ConfigError, match=said):
        tune.tune_run(config)
    assert not fits
    assert not config.folder.exists()


def test_a_measure_that_there_is_not_is_named(search_of, fits):
    """With what is near it, after the first trial."""
    with pytest.raises(StudyError, match=r"objectives\.coarse_9: not measured; did you mean"):
        tune.tune_run(search_of(objectives={"coarse_9": "maximize"}))
    assert len(fits) == 1

"""A search is refused before its first trial if it cannot work."""

from __future__ import annotations

import pytest

from configs import ConfigError, check, load
from train.loop import TrainConfig
from train.tune import TuneConfig, search


def config(**settings: object) -> TuneConfig:
    """A search over the demo's ranker."""
    values = {"name": "t", "run": "configs/ranker/tiny.yaml", **settings}
    return check(values, TuneConfig, place="test")


def test_shipped_search_names_real_settings():
    """Every setting that configs/tune/tiny.yaml searches is one of its run's."""
    shipped = load("configs/tune/tiny.yaml", TuneConfig)
    overrides = [f"{name}={where.domain().sample()}" for name, where in shipped.space.items()]

    load(shipped.run, TrainConfig, overrides)


@pytest.mark.parametrize("where", ["space", "fixed"])
def test_misspelt_setting_stops_the_search(where):
    """A setting that the run does not have is named, with the near miss, before Ray starts."""
    wrong = {"optim.lrr": 0.1 if where == "fixed" else {"choices": [0.1, 0.2]}}
    space = {"optim.lr": {"low": 0.1, "high": 0.2}}
    settings = {"space": wrong} if where == "space" else {"space": space, "fixed": wrong}

    with pytest.raises(ConfigError, match="lrr: no such setting; did you mean 'lr'"):
        search(config(**settings))


@pytest.mark.parametrize(
    "where", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "scale": "log"}, {"choices": [1]}]
)
def test_empty_ranges_are_refused(where):
    """A range without room, or a choice of one, is an error."""
    with pytest.raises(ConfigError):
        config(space={"optim.lr": where})

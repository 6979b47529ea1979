"""A run of a head is found again by what it was made from, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs import ConfigError, check, load
from tests.train.prefix.planted import planted
from train.prefix.runs import (
    PrefixRuns,
    RunData,
    fit_settings,
    is_run,
    load_head,
    settings,
    train_one,
)
from train.runs import RunError

SMALL = {"block_sizes": [8, 8], "num_epochs": 1, "batch_size": 32}


def config(**changes: object) -> PrefixRuns:
    """Runs that take no time."""
    return check({"name": "t", "texts": "planted", "fit": SMALL, **changes}, PrefixRuns, "test")


@pytest.fixture(scope="module")
def data() -> RunData:
    """All texts may be learned from but those drawn to test."""
    x, y = planted(200)
    return RunData(x, y, None, "abc")


def test_a_finished_run_is_found_by_settings_and_data(data: RunData, tmp_path: Path):
    """The same settings on the same data are that run; another seed, setting or text is not."""
    runs = config(sizes={"num_test": 20})
    fit = fit_settings(runs, 2)
    made_by, folder = settings(runs, fit, 1), tmp_path / "own-1"
    assert not is_run(folder, made_by, data)
    story = train_one(folder, made_by, fit, data)

    assert is_run(folder, made_by, data)
    assert not is_run(folder, settings(runs, fit, 2), data)
    longer = fit.model_copy(update={"num_epochs": 2})
    assert not is_run(folder, settings(runs, longer, 1), data)
    assert not is_run(folder, made_by, replace(data, fingerprint="other"))
    assert story["num_train"] + story["num_validation"] == 180


def test_the_head_of_a_run_is_the_one_trained(data: RunData, tmp_path: Path):
    """What is loaded gives vectors of the settings' width that can be cut."""
    runs = config(sizes={"num_test": 20})
    fit = fit_settings(runs, 2)
    for name in ("a", "b"):
        train_one(tmp_path / name, settings(runs, fit, 1), fit, data)
    first, second = (load_head(tmp_path / name) for name in ("a", "b"))
    x = torch.from_numpy(data.features)

    assert first.embed(x).shape == (200, 16)
    assert torch.equal(first.prefix(x, 1), second.prefix(x, 1))
    with pytest.raises(RunError, match="not a finished run"):
        load_head(tmp_path / "c")


def test_shipped_runs_are_a_condition_of_a_set():
    """configs/prefix/clinc.yaml loads, and every condition can stand in it."""
    shipped = load("configs/prefix/clinc.yaml", PrefixRuns)

    assert fit_settings(shipped, 2).condition == "own"
    changed = load("configs/prefix/clinc.yaml", PrefixRuns, ["condition=v5", "fit.lr=0.5"])
    assert fit_settings(changed, 2).lr == 0.5


def test_misspelt_settings_stop_before_anything_is_trained():
    """A change of a setting that the condition does not have names the near miss."""
    with pytest.raises(ConfigError, match="num_epoch: no such setting; did you mean 'num_epochs'"):
        fit_settings(config(fit={"num_epoch": 3}), 2)

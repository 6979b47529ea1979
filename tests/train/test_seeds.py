"""A study trains a run once: what is finished, and would be the same, is taken as it is."""

from __future__ import annotations

import json

import pytest

from tests.conftest import train_config, write_untrained
from train.runs import CONFIG, MODEL, RESULT
from train.studies import seeds as module
from train.studies.seeds import fit_seeds


@pytest.fixture
def fitted(prepared, tmp_path, monkeypatch):
    """The names of runs that were trained, which here takes no time."""
    names = []

    def fit(config):
        names.append(config.name)
        return write_untrained(config, prepared.resolve())

    monkeypatch.setattr(module, "fit", fit)
    return names


def test_a_finished_run_is_taken_as_it_is(prepared, tmp_path, fitted):
    """Also when the data are reached by another path, through a link."""
    run = train_config("ranker", prepared, tmp_path)
    (tmp_path / "link").symlink_to(prepared)
    first = fit_seeds(run, prepared, (0, 1))

    assert fit_seeds(run, tmp_path / "link", (1, 0)) == first[::-1]
    assert fitted == ["ranker-0", "ranker-1"]


def test_a_run_that_would_differ_is_trained_anew(prepared, tmp_path, fitted):
    """Other settings, or data that have changed since, make another run."""
    run = train_config("ranker", prepared, tmp_path)
    (folder,) = fit_seeds(run, prepared, (0,))
    fit_seeds(run.model_copy(update={"num_epochs": 9}), prepared, (0,))
    (folder / RESULT).write_text(json.dumps({"data_fingerprint": "older"}))
    fit_seeds(run.model_copy(update={"num_epochs": 9}), prepared, (0,))

    assert fitted == ["ranker-0"] * 3


def test_a_run_of_settings_that_are_no_more_is_trained_anew(prepared, tmp_path, fitted):
    """Also one that has lost its weights: neither stops a study."""
    run = train_config("ranker", prepared, tmp_path)
    (folder,) = fit_seeds(run, prepared, (0,))
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(settings | {"old_setting": 1}))
    fit_seeds(run, prepared, (0,))
    (folder / MODEL).unlink()
    fit_seeds(run, prepared, (0,))

    assert fitted == ["ranker-0"] * 3

"""A search over a training run keeps its trials, and goes on where it was."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import optuna
import polars as pl
import pyarrow.parquet as pq
import pytest
import ray
import yaml

from configs import check
from pipelines.runtime import connect
from tests.conftest import train_config
from train.tune import tune_run
from train.tuning.results import SUMMARY, TRIALS
from train.tuning.runs import best_command, scalars
from train.tuning.settings import RunSearch
from train.tuning.space import distributions


def test_the_best_command_can_be_pasted():
    """A shell gives back the settings that were found, lists and texts among them."""
    settings = {"learning.sizes": {"choices": [[1, 2], [3]]}, "note": {"choices": ["a b", "$c"]}}
    values = {"name": "t", "run": "configs/ranker/tiny.yaml", "space": settings}
    config = check(values, RunSearch, place="test")
    best = optuna.trial.create_trial(
        params={"learning.sizes": "[1, 2]", "note": "$c"},
        distributions=distributions(config.space),
        value=1.0,
    )

    words = shlex.split(best_command(config, best))

    assert words[:3] == ["python", "-m", "train"]
    assert words[4:] == ["learning.sizes=[1, 2]", 'note="$c"']


def test_groups_of_numbers_are_flattened():
    """Every number of a validation has a name of its own; words and flags are none."""
    told = {"loss": 1, "favorite": {"rate": 0.5, "seen": True}, "note": "x"}

    assert scalars(told) == {"loss": 1.0, "favorite.rate": 0.5}


def num_examples(data: Path) -> int:
    """To train on."""
    parts = (data / "examples" / "split=train").glob("*")
    return sum(pq.read_metadata(part).num_rows for part in parts)


@pytest.fixture
def cluster():
    """Ray on this machine, for one test."""
    connect(num_cpus=4)  # logical
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_search_counts_what_was_finished(prepared, tmp_path, capsys):
    """Two trials, then one more of the same study: the two stand as they were.

    Each ends after `max_steps`, in its second epoch, with a validation of its own.
    """
    run = train_config("ranker", prepared, tmp_path / "runs", batch_size=64, num_epochs=2)
    steps = num_examples(prepared) // 64
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))

    def config(num_trials: int) -> RunSearch:
        values = {
            "name": "rates",
            "out": str(tmp_path / "tune"),
            "run": str(tmp_path / "run.yaml"),
            "space": {"optim.lr": {"low": 1e-4, "high": 1e-2, "scale": "log"}},
            "fixed": {"max_steps": steps + 1},
            "num_trials": num_trials,
        }
        return check(values, RunSearch, place="test")

    tune_run(config(2))
    first = pl.read_parquet(tmp_path / "tune" / "rates" / TRIALS)
    tune_run(config(3))
    both = pl.read_parquet(tmp_path / "tune" / "rates" / TRIALS)

    assert (len(first), len(both)) == (2, 3)
    assert both[:2].equals(first)
    assert both["optim.lr"].n_unique() == 3
    assert both["measure.val_loss"].is_finite().all()
    stories = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*/result.json")]
    assert [story["total_steps"] for story in stories] == [steps + 1] * 3
    assert all(len(story["epochs"]) == 2 for story in stories)
    assert "python -m train" in capsys.readouterr().out
    assert "optim.lr" in (tmp_path / "tune" / "rates" / SUMMARY).read_text()

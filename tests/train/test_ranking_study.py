"""A ranking study measures what it says, on the rows it says, from the weights that were kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import ConfigError, load
from pipelines.facts import Facts
from pipelines.schema import ACTION_NAMES, SPLITS
from tests.conftest import write_untrained
from tests.train.small_run import MODEL as SHAPE
from tests.train.small_run import config, start
from train.__main__ import STUDIES, study_kind
from train.evaluate import predict
from train.loop import TrainConfig
from train.metrics import auc
from train.report import markdown, plain
from train.rows import flatten, read_examples
from train.studies import ranking
from train.studies.seeds import load_run

CLICK = ACTION_NAMES.index("click")
FILES = sorted([*Path("configs/ranker").glob("*.yaml"), *Path("configs/retrieval").glob("*.yaml")])


def finished(folder: Path, data: Path, seed: int) -> Path:
    """A run as `fit` leaves it, of weights that were never trained."""
    return write_untrained(
        config("ranker", seed=seed, name=folder.name, out=str(folder.parent), data=str(data)), data
    )


@pytest.fixture(scope="module")
def log(prepared):
    """Every row of the prepared world, and which are the test split's."""
    parts = [read_examples(prepared, split) for split in SPLITS]
    rows = flatten(read_examples(prepared, *SPLITS))
    return rows, rows.example >= len(parts[0]) + len(parts[1])


def test_a_run_is_evaluated_without_a_bundle(prepared, tmp_path):
    """The weights that a run kept predict as they did in training."""
    folder = finished(tmp_path / "run", prepared, seed=3)
    model = start(config("ranker", seed=3), prepared).learner.model.eval()
    test, facts = read_examples(prepared, "test").slice(0, 40), Facts.load(prepared)
    again = predict(load_run(folder, prepared), test, facts)
    np.testing.assert_array_equal(again, predict(model, test, facts))


def test_model_and_baselines_are_measured_on_the_same_rows(world, log):
    """The planted truth's figures are its own on the test rows, and so are the trees'."""
    rows, test = log
    truth = world.oracle(rows.user_id[test], rows.post_id[test])
    runs = {"run-0": truth, "run-1": np.flip(truth, axis=0)}
    found = ranking.measure(rows, test, CLICK, runs, by_trees=truth)
    label = rows.label(CLICK)[test]
    each = [auc(label, runs[name][:, CLICK]) for name in runs]
    assert found["seeds"]["run-0"]["auc"] == found["baselines"]["boosted_trees"]["auc"] == each[0]
    assert found["auc"] == pytest.approx(np.mean(each))
    assert found["auc_spread"] == pytest.approx(np.std(each, ddof=1))
    assert found["num_rows"] == test.sum()
    assert found["num_positives"] == label.sum()
    assert {"ne", "calibration", "calibration_error"} < set(found["baselines"]["user_rate"])
    against = found["differences"]["auc against boosted_trees"]
    assert against["difference"] == pytest.approx(np.mean(each) - each[0])
    assert against["low"] < against["difference"] < against["high"]


def test_what_the_trees_cannot_say_is_left_out(world, log):
    """An action without trees has as-of rates only, and a popularity has no calibration."""
    rows, test = log
    truth = world.oracle(rows.user_id[test], rows.post_id[test])
    found = ranking.measure(rows, test, CLICK, {"run-0": truth}, np.full_like(truth, np.nan))
    assert "boosted_trees" not in found["baselines"]
    assert set(found["baselines"]["popularity"]) == {"auc"}


def test_a_study_reports_every_action_by_the_data_sets_name(prepared, tmp_path, monkeypatch):
    """Runs, baselines and counts of each action that the test rows show stand under its name."""
    data = shutil.copytree(prepared, tmp_path / "data")
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["action_names"] = {"favorite": "like"}
    (data / "manifest.json").write_text(json.dumps(manifest))
    folders = [finished(tmp_path / f"run-{seed}", data, seed) for seed in (0, 1)]
    monkeypatch.setattr(ranking, "prepared", lambda config: data)
    monkeypatch.setattr(ranking, "fit_seeds", lambda run, data, seeds: folders)
    monkeypatch.setattr(ranking, "_trees", lambda data: None)
    monkeypatch.setattr(ranking, "bootstrap_interval", lambda *_: (0.0, 0.0))  # slow
    results = ranking.rank(ranking.RankingStudy(report="r", seeds=(0, 1), run=config("ranker")))
    assert set(results["like"]["seeds"]) == {"run-0", "run-1"}
    assert "favorite" not in results
    assert "dwell_time" not in results
    assert results["click"]["num_rows"] == results["data"]["num_test_rows"]
    assert results["runs"]["run-0"]["best_validation_loss"] == 0.4
    markdown({"name": "r", **plain(results)})


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_loads_as_what_it_says(file):
    """A file with a `study` is that study's settings, any other is a run's."""
    kind = study_kind(str(file))
    load(file, STUDIES[kind][0] if kind else TrainConfig)


def test_an_unknown_study_is_named(tmp_path):
    """What no study is called is said, with what there is."""
    (tmp_path / "x.yaml").write_text("study: rankign\n")
    with pytest.raises(ConfigError, match=r"'rankign' is none of .*ranking"):
        study_kind(str(tmp_path / "x.yaml"))


def test_a_ranking_study_trains_rankers_only():
    """Two towers predict no actions; the settings say so before anything runs."""
    with pytest.raises(ValueError, match="needs 'ranker', not 'retrieval'"):
        ranking.RankingStudy(report="r", run=config("retrieval"))


def test_a_wide_ranker_starts_from_the_overall_rates(prepared):
    """With a silent network the predictions are the shares of all showings so far."""
    settings = config("ranker", learning={"model": {**ranker_shape(), "wide": True}})
    learner = start(settings, prepared).learner
    torch.nn.init.zeros_(learner.model.unembed.weight)
    rows = read_examples(prepared, "test").slice(0, 20)
    predicted = predict(learner.model.eval(), rows, learner.facts)
    shown = flatten(rows)
    counts = learner.facts.counts(
        "all", np.ones(len(shown), np.int64), shown.shown_at_ms, predicted.shape[1]
    )
    expected = (counts[:, 1 + CLICK] + 1) / (counts[:, 0] + 2)
    np.testing.assert_allclose(predicted[:, CLICK], expected, rtol=1e-5)


def test_a_wide_ranker_needs_rates():
    """Without the as-of rates there is nothing for the linear term to read."""
    shape = ranker_shape()
    shape["features"] = {**shape["features"], "rates": False}
    with pytest.raises(ValueError, match="wide reads the as-of rates"):
        config("ranker", learning={"model": {**shape, "wide": True}})


def ranker_shape() -> dict:
    """The small run's model, to be changed."""
    return json.loads(json.dumps(SHAPE))

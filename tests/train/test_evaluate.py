"""The evaluation scores what the bundle would serve, on the rows it says."""

import json
import shutil

import numpy as np
import pytest
import torch

from pipelines.facts import Facts
from pipelines.features import example_inputs
from pipelines.schema import ACTIONS
from train.bundle import BundleError, load
from train.evaluate import evaluate, main, predict
from train.report import plain
from train.rows import flatten, read_examples
from train.trees import TreeSettings, is_installed

NO_SCORES = {"model", "best_baseline", "difference", "interval"}


@pytest.fixture(scope="module")
def results(bundle, prepared):
    """The whole evaluation of an untrained bundle, beside few trees where they can be fitted."""
    few = TreeSettings(num_rounds=10, min_data_in_leaf=50)
    return evaluate(bundle, prepared, boosted_trees=few if is_installed() else None)


def test_predictions_come_in_the_order_of_the_rows(bundle, prepared):
    """Scoring in batches of like length gives each row what scoring its example alone gives."""
    examples, ranker = read_examples(prepared, "test"), bundle.load_ranker()
    facts = Facts.load(prepared)
    predicted, rows = predict(ranker, examples, facts), flatten(examples)
    assert predicted.shape == (len(rows), len(ACTIONS))
    for i in range(0, len(examples), 40):
        inputs = example_inputs(examples.slice(i, 1), ranker.config.features, facts)
        with torch.inference_mode():
            alone = ranker.predict({k: torch.from_numpy(v) for k, v in inputs.items()})[0]
        np.testing.assert_allclose(predicted[rows.example == i], alone, rtol=1e-4, atol=1e-6)


def test_every_part_is_there(results):
    """Ranking, dwell and retrieval are measured beside their baselines."""
    assert set(results["ranking"]["auc"]["click"]) > {"model", "post_rate", "interval"}
    assert results["dwell_s"]["capped"]["median"] > 0
    assert {"model", "popular", "popular_7_days", "transitions", "ease", "item_knn", "blend"} < set(
        results["retrieval"]["recall@10"]
    )
    json.dumps(plain(results), allow_nan=False)


@pytest.mark.skipif(not is_installed(), reason="lightgbm comes with the dev extra")
def test_trees_stand_beside_the_model(results):
    """Boosted trees are one more baseline of every measure, for the actions they were fitted on."""
    ranking = results["ranking"]
    for metric in ("auc", "grouped_auc", "normalised_entropy", "calibration", "calibration_error"):
        assert np.isfinite(ranking[metric]["click"]["boosted_trees"])
    assert ranking["auc"]["click"]["boosted_trees"] > 0.55
    named = ranking["auc"]["click"]["best_baseline"]
    others = {k: v for k, v in ranking["auc"]["click"].items() if k not in NO_SCORES}
    assert named == max(others, key=others.get)


def test_untrained_towers_find_little(results):
    """A random retriever is no better than popularity; a leak would show here."""
    recall = results["retrieval"]["recall@100"]
    assert recall["model"] < recall["ease"]
    assert abs(results["ranking"]["auc"]["favorite"]["model"] - 0.5) < 0.15


def test_other_data_is_refused(bundle, prepared, tmp_path):
    """A bundle is not measured on data it was not trained on."""
    shutil.copytree(prepared, tmp_path / "data")
    manifest = json.loads((prepared / "manifest.json").read_text())
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "f00"}))
    with pytest.raises(BundleError, match="is f00; give the other data folder"):
        evaluate(bundle, tmp_path / "data")


def test_command_fills_the_card_and_writes_the_report(
    bundle_path, prepared, tmp_path, monkeypatch, capsys
):
    """The numbers reach the screen, the bundle's card and the report."""
    folder = shutil.copytree(bundle_path, tmp_path / "bundle")
    monkeypatch.setattr("train.evaluate.REPORTS", tmp_path)
    arguments = [str(folder), "--data", str(prepared), "--report", "demo", "--no-trees"]
    monkeypatch.setattr("sys.argv", ["evaluate", *arguments])
    assert main() == 0
    assert "recall@100" in capsys.readouterr().out
    record = json.loads((tmp_path / "demo.json").read_text())
    assert load(folder).card["metrics"]["retrieval"] == record["retrieval"]
    assert record["header"]["data_fingerprint"] == load(folder).card["data_fingerprint"]
    assert (tmp_path / "demo.md").read_text().startswith("# demo")


def test_a_missing_bundle_is_said_plainly(tmp_path, monkeypatch, capsys):
    """The command names what is not a bundle and leaves with 2."""
    monkeypatch.setattr("sys.argv", ["evaluate", str(tmp_path)])
    assert main() == 2
    assert "not a bundle" in capsys.readouterr().err

"""The study of retrieval keeps what it has measured, whatever befalls one of its parts."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import ConfigError, check
from pipelines.data.reader import InputError
from pipelines.facts import Facts
from pipelines.prepared import read_manifest
from tests.conftest import train_config, write_untrained_seeds
from train.evaluate import evaluate_retrieval
from train.index import index_posts
from train.rows import read_examples
from train.studies import retrieval as module
from train.studies.content import Content
from train.studies.retrieval import RetrievalStudy, retrieval
from train.studies.seeds import each_data_set, load_run


def study(**parts: object) -> RetrievalStudy:
    """The settings of a study of these parts."""
    return check({"study": "retrieval", "report": "r", **parts}, RetrievalStudy, place="tests")


def test_a_part_that_fails_costs_no_other(tmp_path, monkeypatch, capsys):
    """The report holds the others; what is missing is said, and what failed is an error."""

    def broken(settings, seeds):
        raise IndexError("no such row")

    def missing(settings, seeds):
        raise InputError("fetch it")

    monkeypatch.setattr(module, "REPORTS", tmp_path)
    monkeypatch.setattr(module, "content", broken)
    monkeypatch.setattr(module, "cold_start", lambda settings, seeds: {"hr10": 0.5})
    monkeypatch.setattr(module, "next_visits", missing)
    visits = {"mine": {"data": "d.yaml", "run": {"name": "n", "learning": {"kind": "retrieval"}}}}

    with pytest.raises(ValueError, match=r"r\.md: written, but content failed"):
        retrieval(study(next_visits=visits, content={}, cold_start={}))
    record = json.loads((tmp_path / "r.json").read_text())

    assert record["mine"] == {"left_out": "fetch it"}
    assert record["content"] == {"failed": "IndexError('no such row')"}
    assert record["cold_start"] == {"hr10": 0.5}
    assert "no such row" in capsys.readouterr().err


def test_towers_and_baselines_answer_the_same_visits(prepared, tmp_path, monkeypatch):
    """Means over seeds and the baselines' own figures; all from what came before the test split."""
    monkeypatch.setattr(module, "prepared", lambda config: prepared)
    monkeypatch.setattr(module, "fit_seeds", partial(write_untrained_seeds, out=tmp_path))
    run = train_config("retrieval", prepared, tmp_path)
    found = module.next_visits(module.NextVisits(data="world", run=run), (0, 1))

    before, test = read_examples(prepared, "train", "validate"), read_examples(prepared, "test")
    facts, posts = Facts.load(prepared), pq.read_table(prepared / "posts.parquet")
    each = []
    for seed in (0, 1):
        towers = load_run(tmp_path / f"retrieval-{seed}", prepared)
        index = index_posts(towers, posts, facts)
        each.append(evaluate_retrieval([(towers, index)], facts, before, test, "click"))
    for metric, short in (("recall@100", "recall100"), ("ndcg@10", "ndcg10")):
        values = [one[metric]["model"] for one in each]
        assert found["model"][short] == pytest.approx(np.mean(values))
        assert found["model"][f"{short}_spread"] == pytest.approx(np.std(values, ddof=1))
        assert found["ease"][short] == each[0][metric]["ease"]
        best = found["difference"][short]["best_baseline"]
        lead = found["model"][short] - found[best][short]
        assert found["difference"][short]["difference"] == pytest.approx(lead)
    assert set(found["runs"]) == {"retrieval-0", "retrieval-1"}
    assert module._fingerprints({"part": found}) == [read_manifest(prepared)["fingerprint"]]


def test_a_missing_data_set_costs_no_other():
    """What is there is measured; of what is not, the text says what to fetch."""

    def of(config):
        if "second" in config:
            raise InputError("fetch second.zip")
        return {"first": {"auc": 0.5}}

    found = each_data_set(("configs/data/first.yaml", "configs/data/second.yaml"), of)

    assert found == {"first": {"auc": 0.5}, "second": {"left_out": "fetch second.zip"}}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"content": {"relevant": "clik"}}, "'clik' is no action; did you mean 'click'"),
        ({"content": {"steps": ["states", "projected"]}}, "each once, and as in"),
        ({"content": {}, "seeds": [0, 0]}, "a seed twice is one run"),
    ],
)
def test_what_no_study_can_mean_is_refused_at_once(parts, message):
    """Before any data are read."""
    with pytest.raises(ConfigError, match=message):
        study(**parts)


def test_steps_may_be_left_out():
    """As long as the others keep their order."""
    assert Content(steps=("projected", "ids_and_text")).steps == ("projected", "ids_and_text")

"""The study of posts' text: what is held against what."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.facts import CONTENT, CONTENT_IDS
from pipelines.prepared import note
from pipelines.schema import ACTION_NAMES
from tests.conftest import write_untrained_seeds
from train.metrics import auc
from train.report import plain
from train.rows import flatten, read_examples
from train.studies import content as module
from train.studies.content import Content, content, held_against, runs_of
from train.studies.seeds import load_run

CLICK = ACTION_NAMES.index("click")


@pytest.fixture(scope="module")
def data(prepared, tmp_path_factory):
    """The synthetic world with a vector as each post's text."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("texts") / "world")
    ids = np.sort(pq.read_table(folder / "posts.parquet")["post_id"].to_numpy())
    vectors = np.random.default_rng(0).normal(size=(len(ids), 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(folder / CONTENT, vectors.astype(np.float16))
    np.save(folder / CONTENT_IDS, ids)
    note(folder, "content", {"identity": "drawn"})
    return folder


def test_every_step_is_measured_on_the_same_rows(data, tmp_path, monkeypatch):
    """Runs of all steps, on every measure, beside the baselines; the rows counted by hand."""
    settings = Content(
        data={"world": 1}, liked="click", out=str(tmp_path), emb_size=16, projected_size=8
    )
    fitted = {}

    def untrained(run, data, seeds):
        fitted[run.name] = write_untrained_seeds(run, data, seeds, tmp_path)
        return fitted[run.name]

    monkeypatch.setattr(module, "prepared_data", lambda config: data)
    monkeypatch.setattr(module, "encode", lambda *_: None)
    monkeypatch.setattr(module, "fit_seeds", untrained)
    found = content(settings, (0, 1))["world"]

    rows = flatten(read_examples(data, "test"))
    seen = rows.seen(CLICK)
    assert found["num_ranked"] == seen.sum()
    assert 0 < found["num_queries"] <= len(read_examples(data, "test"))
    for measure in ("recall@10", "recall@100", "ndcg@10", "auc"):
        assert {"frozen", "projected", "states", "ids_and_text"} < set(found[measure]["values"])
        assert set(found[measure]["seeds_with_gain"]) == {"projected", "states", "ids_and_text"}
    assert {"ease", "transitions"} < set(found["recall@100"]["values"])
    rankers = [load_run(run, data) for run in fitted["content-world-states-ranker"]]
    task = module.Task.of(data, settings)
    each = [auc(rows.label(CLICK)[seen], task.ranked(ranker)[seen]) for ranker in rankers]
    assert found["auc"]["values"]["states"] == pytest.approx(np.mean(each))
    json.dumps(plain(found), allow_nan=False)


def test_every_step_is_held_against_the_one_before():
    """Gains are differences within a seed, and are counted where they are above zero."""
    seeds = [
        {"recall@10": {"frozen": 0.1, "projected": 0.2, "states": 0.15}},
        {"recall@10": {"frozen": 0.1, "projected": 0.4, "states": 0.45}},
    ]
    found = held_against({"popular": 0.05}, seeds, "recall@10")

    assert found["values"]["popular"] == 0.05
    assert found["values"]["projected"] == pytest.approx(0.3)
    assert found["gain"]["projected"] == pytest.approx(0.2)
    assert found["gain"]["states"] == pytest.approx(0.0)
    assert found["gain"]["states_spread"] == pytest.approx(0.1 / 2**0.5)
    assert found["seeds_with_gain"] == {"projected": 2, "states": 1}


def test_only_the_last_step_reads_ids():
    """Steps two and three know posts by their text alone; the fourth has all, and the text."""
    runs = runs_of("data", 384, Content())
    reads = {name: run.learning.model.features for name, run in runs.items()}

    assert [name for name, spec in reads.items() if spec.ids] == [
        "ids_and_text-towers",
        "ids_and_text-ranker",
    ]
    assert not any(spec.context or spec.rates for spec in reads.values() if not spec.ids)
    assert all(spec.content_size == 384 for spec in reads.values())

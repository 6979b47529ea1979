"""The bench of training on a made-up world: it runs and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.bench.bench_train import FORMS, form_of, report, some_batches, start
from tests.conftest import train_config
from train.loop import TrainConfig
from train.report import markdown
from train.runs import resolve

KINDS = ("ranker", "retrieval")
SIZES = {"steps": 2, "rounds": 1, "ray_steps": 24}


def small(kind: str, data: Path) -> TrainConfig:
    """A run of a small model."""
    return resolve(train_config(kind, data, data, batch_size=16), data)


def test_record_of_the_bench(prepared, tmp_path, monkeypatch):
    """Two steps of every form, without Ray, leave a page whose rates follow from its times."""
    for name, value in {"WARM_UP": 1, "COUNTED_BATCHES": 1, "MATMUL_SIZE": 64}.items():
        monkeypatch.setattr(f"tests.bench.bench_train.{name}", value)
    configs = {kind: small(kind, prepared) for kind in KINDS}
    page = report(prepared, configs, SIZES, with_ray=False, folder=tmp_path)
    record = json.loads((tmp_path / "train_bench.json").read_text())

    assert page.read_text() == markdown(record)
    assert record["header"]["steps"] == 2
    assert "ray_train" not in record
    for kind in KINDS:
        assert list(record[kind]) == list(FORMS)
        for row in record[kind].values():
            assert row["examples_per_s"] == pytest.approx(16 / row["step_ms"] * 1000)
            rate = row["mflop_per_example"] * row["examples_per_s"] / 1000
            assert row["gflop_per_s"] == pytest.approx(rate)
            share = row["gflop_per_s"] / row["matmul_gflop_per_s"]
            assert row["share_of_matmul_rate"] == pytest.approx(share)
            assert row["step_ms"] > 0 < row["mflop_per_example"]


@pytest.mark.parametrize("kind", KINDS)
def test_forms_start_equal_and_differ_in_what_they_hold(kind, prepared):
    """All forms have the same weights and the same posts to judge; a budget holds fewer events."""
    trainers = {form: start(form_of(small(kind, prepared), form), prepared) for form in FORMS}
    first = {form: some_batches(trainer, prepared, 1)[0] for form, trainer in trainers.items()}
    padded = trainers["padded"].weights()

    for form, trainer in trainers.items():
        assert trainer.learner.model.config.packed == FORMS[form][0]
        for name, weight in trainer.weights().items():
            assert torch.equal(weight, padded[name]), name
    events = {form: (b["history_post_hashes"][..., 0] != 0).sum() for form, b in first.items()}
    assert events["padded"] == events["packed"] > events["packed, budget"] > 0


@pytest.mark.bench
@pytest.mark.parametrize("kind", KINDS)
def test_both_loops_do_the_same_work(kind, prepared):
    """On Ray and in memory the same batches meet the same weights: equal losses at every step."""
    import ray

    from tests.bench.ray_beside_plain import compare

    try:
        row = compare(small(kind, prepared), prepared, num_rounds=1, num_steps=24)
    finally:
        ray.shutdown()

    assert row["largest_difference_of_losses"] < 1e-5  # float32 rounds by where its data lie
    assert row["ray_startup_s"] > row["plain_startup_s"] > 0

"""What a validation reports: each measure a mean over what it rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.features import example_targets
from pipelines.schema import ACTION_NAMES, DWELL_TIME
from tests.train.small_run import config, start, tables
from train.learners.measures import means, of_actions, of_scalars
from train.loop import batches
from train.metrics import log_loss

A = len(ACTION_NAMES)


def test_an_action_is_measured_where_it_is_observed():
    """Log loss, rate and prediction of an action are over the candidates that observe it."""
    logits, labels, mask = torch.zeros(1, 3, A), torch.zeros(1, 3, A), torch.zeros(1, 3, A)
    logits[0, :, 0] = torch.tensor([2.0, -1.0, 9.0])
    labels[0, :, 0] = torch.tensor([1.0, 0.0, 1.0])
    mask[0, :2, 0] = 1
    totals = of_actions(logits, labels, mask, ["first", "", *["rest"] * (A - 2)])
    result = means({n: (s.item(), w.item()) for n, (s, w) in totals.items()})
    p = torch.tensor([2.0, -1.0]).sigmoid()

    assert result["actions"].keys() == {"first"}
    assert result["actions"]["first"] == pytest.approx(
        {"log_loss": log_loss([1, 0], p), "rate": 0.5, "predicted": p.mean().item()}, rel=1e-6
    )


def test_scalars_are_means_over_the_common_weight():
    """Two batches of weights 1 and 3 give the mean of four."""
    total: dict[str, tuple[float, float]] = {"a": (0.0, 0.0)}
    for value, weight in ((2.0, 1.0), (6.0, 3.0)):
        parts = of_scalars({"a": torch.tensor(value), "weight": torch.tensor(weight)})
        assert parts.keys() == {"a"}
        total["a"] = tuple(x + y.item() for x, y in zip(total["a"], parts["a"], strict=True))

    assert means(total) == {"a": pytest.approx((2 + 18) / 4)}


def test_nothing_observed_is_not_reported():
    """A measure that rests on nothing is absent, not 0."""
    assert means({"loss": (1.0, 2.0), "actions/report/rate": (0.0, 0.0)}) == {"loss": 0.5}


def test_validation_of_the_ranker_says_each_observed_action(prepared):
    """Evaluation names every observed action with the held-out rows' own rate."""
    trainer = start(config("ranker"), prepared)
    held_out = tables(prepared, 64)[:3]
    totals = trainer.evaluate(batches(trainer.learner, held_out, (0,)))
    actions = means(totals)["actions"]
    targets = [example_targets(rows, trainer.learner.spec) for rows in held_out]
    done, observed = (
        sum(t[name].sum(axis=(0, 1)) for t in targets) for name in ("labels", "label_mask")
    )
    expected = {
        name: done[i] / observed[i]
        for i, name in enumerate(ACTION_NAMES)
        if observed[i] and i != DWELL_TIME
    }

    assert {name: entry["rate"] for name, entry in actions.items()} == pytest.approx(expected)
    assert all(math.isfinite(entry["log_loss"]) for entry in actions.values())


def test_loss_of_a_validation_does_not_depend_on_its_batches(prepared):
    """The ranker's measures over one batch equal those over the same rows in four."""
    trainer = start(config("ranker", learning={"dwell_weight": 0}), prepared)
    rows = tables(prepared, 64)[0]
    whole, parts = (
        means(
            trainer.evaluate(
                trainer.learner.batch(rows.slice(at, size), np.random.default_rng(0))
                for at in range(0, 64, size)
            )
        )
        for size in (64, 16)
    )
    del whole["dwell_loss"], parts["dwell_loss"]  # a mean over what was measured

    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-5)
    for name, entry in whole["actions"].items():
        assert parts["actions"][name] == pytest.approx(entry, rel=1e-4), name

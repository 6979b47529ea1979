"""A trained ranker promises what viewers did on the validation split, in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pipelines.facts import Facts
from pipelines.schema import ACTION_NAMES, DWELL_TIME
from tests.train.small_run import config, start
from train.calibration import PRIOR_SHIFT, calibrate, fit_shift
from train.evaluate import predict
from train.rows import flatten, read_examples


def test_with_much_evidence_the_mean_promise_becomes_the_rate():
    """Also far off, and also of a rare action."""
    rng = np.random.default_rng(0)
    true = np.array([0.1, 3.0, -0.4])
    logits = rng.normal([[0.0, 0.0, -5.0]], 1.5, size=(200_000, 3))
    labels = rng.random(logits.shape) < 1 / (1 + np.exp(-(logits + true)))
    shift = fit_shift(logits, labels, np.ones_like(logits))

    assert shift == pytest.approx(true, abs=0.1)
    promised = 1 / (1 + np.exp(-(logits + shift)))
    assert promised.mean(axis=0) == pytest.approx(labels.mean(axis=0), rel=0.01)


def test_with_little_evidence_the_shift_stays_small():
    """A single positive among few moves little, and what was not observed moves nothing."""
    labels, observed = np.zeros((10, 2)), np.array([[1.0, 0.0]] * 10)
    labels[0] = 1
    shift = fit_shift(np.full((10, 2), -6.0), labels, observed)

    assert 0 < shift[0] < PRIOR_SHIFT
    assert shift[1] == 0


def test_a_calibrated_run_keeps_every_order(prepared, tmp_path):
    """Probabilities move to the validation split's rates, ranks and dwell times do not."""
    trainer = start(config("ranker"), prepared)
    before, weights = trainer.learner.model.eval(), tmp_path / "model.safetensors"
    rows, facts = read_examples(prepared, "validate"), Facts.load(prepared)
    plain = predict(before, rows, facts)
    save_file(before.state_dict(), weights)

    shift = calibrate(weights, trainer.learner, prepared)
    assert calibrate(weights, trainer.learner, prepared) == shift, "not on top of the first"
    before.load_state_dict(load_file(weights))
    moved, log = predict(before, rows, facts), flatten(rows)

    assert np.array_equal(plain[:, DWELL_TIME], moved[:, DWELL_TIME])
    assert shift
    for action, name in enumerate(ACTION_NAMES):
        if name not in shift:
            continue
        order = np.argsort(plain[:, action], kind="stable")
        assert (np.diff(moved[order, action]) >= 0).all(), name
        seen = log.seen(action)
        gap = [abs(p[seen, action].mean() - log.label(action)[seen].mean()) for p in (plain, moved)]
        assert gap[1] <= gap[0], name

"""What a trained ranker promises, brought to what viewers did on the validation split.

Rates drift from day to day, and a model knows only those of its training days. Each action's
log-odds get one number added, so no order of posts changes; see `Ranker.shift`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.schema import DWELL_TIME
from train.learners import RankingLearner
from train.loop import batches
from train.rows import read_examples

PRIOR_SHIFT = 0.2  # standard deviation of a shift before any evidence: rates move by a fifth
_BATCH = 512  # examples at once
_MOST = 100_000  # examples, evenly spaced in time order, that a shift is fitted on
_ROUNDS = 30  # of Newton's method, which needs some five


def fit_shift(
    logits: NDArray[np.floating], labels: NDArray[np.floating], observed: NDArray[np.floating]
) -> NDArray[np.float64]:
    """For each action, what added to all its log-odds makes its outcomes likeliest.

    Minimises sum_n w_n (softplus(z_n + b) - y_n (z_n + b)) + b² / (2 PRIOR_SHIFT²) over b: with
    much evidence the mean promise becomes the rate, with none the shift is 0.

    Args:
        logits: log-odds z. [n, A].
        labels: y, 0 or 1. [n, A].
        observed: w, 1 = the log could have told. [n, A].

    Returns:
        float64 [A].
    """
    z, y, w = (np.asarray(x, np.float64) for x in (logits, labels, observed))
    shift = np.zeros(z.shape[1])
    for _ in range(_ROUNDS):
        p = 1 / (1 + np.exp(-(z + shift)))
        slope = (w * (p - y)).sum(axis=0) + shift / PRIOR_SHIFT**2
        curvature = (w * p * (1 - p)).sum(axis=0) + 1 / PRIOR_SHIFT**2
        shift -= np.clip(slope / curvature, -1, 1)  # far off, the curve is no parabola
    return shift


def calibrate(weights: Path, learner: RankingLearner, data: Path) -> dict[str, float]:
    """Fit the shift of a trained ranker on the validation split and write it to its weights.

    Args:
        weights: safetensors file of the ranker, which is changed.
        learner: made from the run's settings; its model takes the weights.
        data: the prepared data of the run.

    Returns:
        The shift in log-odds of each action that the validation split observes.
    """
    state = load_file(weights)
    state["shift"].zero_()  # fitted anew, not on top of an earlier one
    learner.model.load_state_dict(state)
    learner.model.eval()
    rows = read_examples(data, "validate")
    every = -(-len(rows) // _MOST)
    rows = rows.take(np.arange(0, len(rows), every))
    tables = (rows.slice(at, _BATCH) for at in range(0, len(rows), _BATCH))
    parts: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for batch in batches(learner, tables, (0,)):
            own = learner.shown(batch)
            told = own["label_mask"].any(dim=-1)
            logits = learner.model(own)
            parts.append((logits[told], own["labels"][told], own["label_mask"][told]))
    logits, labels, observed = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    observed[:, DWELL_TIME] = 0  # no log-odds
    shift = fit_shift(logits, labels, observed)
    state["shift"] = torch.from_numpy(shift).float()
    save_file(state, weights)
    names = zip(learner.action_names, shift, observed.max(axis=0), strict=True)
    return {name: float(value) for name, value, known in names if name and known}

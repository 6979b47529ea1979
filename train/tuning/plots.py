"""Plots of a study: history, importances, slices and, of several objectives, the Pareto front."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from train.report_plots import figures
from train.tuning.settings import Search
from train.tuning.study import feasible, front

_FIT, _UNFIT, _BEST = "#1f5fa8", "#c9c9c9", "#c8553d"
_ENOUGH = 8  # trials; importances of fewer say nothing


def save_plots(study: Study, search: Search) -> list[str]:
    """Write the plots that the study has enough trials for; returns the files' names.

    None without matplotlib.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    try:
        written = figures(
            (search.folder / f"{name}.png", partial(plot, study, search, trials))
            for name, plot in _PLOTS.items()
        )
    except ImportError:
        return []
    return [file.name for file in written]


def importances(study: Study, search: Search) -> dict[str, dict[str, float]]:
    """Objective -> setting -> share of what decides whether a trial is among the best tenth.

    PED-ANOVA (Watanabe et al., IJCAI 2023); empty where there are too few trials.
    """
    num = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if num < _ENOUGH or len(search.space) < 2:
        return {}
    found = {}
    for at, (name, way) in enumerate(search.objectives.items()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Optuna calls experimental
            evaluator = PedAnovaImportanceEvaluator()
            sign = -1 if way == "maximize" else 1  # with a target it takes less for better
            found[name] = get_param_importances(
                study, evaluator=evaluator, target=_value_of(at, sign)
            )
    return found


def _value_of(at: int, sign: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: sign * trial.values[at]


def _history(study: Study, search: Search, trials: Sequence[FrozenTrial], plt: Any) -> Any:
    """Each trial's value, and the best so far."""
    if not trials:
        return None
    figure, axes = _panels(plt, len(search.objectives))
    number, fit = np.array([t.number for t in trials]), np.array([feasible(t) for t in trials])
    for at, (axis, (name, way)) in enumerate(zip(axes, search.objectives.items(), strict=True)):
        value = np.array([t.values[at] for t in trials])
        _dots(axis, number, value, fit)
        sign = 1 if way == "maximize" else -1
        best = sign * np.maximum.accumulate(np.where(fit, sign * value, -np.inf))
        axis.step(number, np.where(np.isfinite(best), best, np.nan), where="post", color=_BEST)
        axis.set(title=name, xlabel="trial")
    return figure


def _importances(study: Study, search: Search, trials: Sequence[FrozenTrial], plt: Any) -> Any:
    """How much each setting decides."""
    found = importances(study, search)
    if not found:
        return None
    figure, axes = _panels(plt, len(found), height=1.2 + 0.25 * len(search.space))
    for axis, (name, shares) in zip(axes, found.items(), strict=True):
        settings = sorted(shares, key=lambda setting: shares[setting])
        axis.barh(settings, [shares[setting] for setting in settings], color=_FIT)
        axis.set(title=name, xlabel="share")
    return figure


def _slices(study: Study, search: Search, trials: Sequence[FrozenTrial], plt: Any) -> Any:
    """The first objective along each setting."""
    if not trials:
        return None
    name = next(iter(search.objectives))
    fit, value = np.array([feasible(t) for t in trials]), np.array([t.values[0] for t in trials])
    figure, axes = _panels(plt, len(search.space))
    for axis, (setting, where) in zip(axes, search.space.items(), strict=True):
        has = np.array([setting in t.params for t in trials])
        drawn = [t.params[setting] for t in trials if setting in t.params]
        at = np.array(drawn, float) if where.numeric else np.array([str(d) for d in drawn])
        _dots(axis, at, value[has], fit[has])
        axis.set(title=setting, ylabel=name)
        if getattr(where, "scale", None) == "log":
            axis.set_xscale("log")
    return figure


def _front(study: Study, search: Search, trials: Sequence[FrozenTrial], plt: Any) -> Any:
    """Each pair of objectives, what nothing beats in colour."""
    names = list(search.objectives)
    if not trials or len(names) < 2:
        return None
    value, fit = np.array([t.values for t in trials]), np.array([feasible(t) for t in trials])
    best = np.array([trial.values for trial in front(study, search)]).reshape(-1, len(names))
    pairs = list(itertools.combinations(range(len(names)), 2))
    figure, axes = _panels(plt, len(pairs))
    for axis, (x, y) in zip(axes, pairs, strict=True):
        _dots(axis, value[:, x], value[:, y], fit)
        axis.scatter(best[:, x], best[:, y], s=18, color=_BEST)
        axis.set(xlabel=names[x], ylabel=names[y])
    return figure


_PLOTS = {
    "history": _history,
    "importances": _importances,
    "slices": _slices,
    "front": _front,
}


def _panels(plt: Any, num: int, height: float = 2.8) -> tuple[Any, list[Any]]:
    columns = min(num, 3)
    rows = -(-num // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[num:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:num])


def _dots(axis: Any, x: np.ndarray, y: np.ndarray, fit: np.ndarray) -> None:
    """Trials, those out of bounds in grey."""
    axis.scatter(x, y, s=9, c=np.where(fit, _FIT, _UNFIT))

"""What a search leaves behind: all trials as Parquet, plots, and a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from optuna.study import Study
from optuna.trial import FrozenTrial

from pipelines.whole import save_text
from train.tuning.plots import save_plots
from train.tuning.settings import Search
from train.tuning.study import MEASURES, feasible, fingerprint, front, settings_of

TRIALS, SUMMARY = "trials.parquet", "summary.md"
_SHOWN = 10  # trials in the summary


def save_results(study: Study, search: Search, more: Sequence[str] = ()) -> None:
    """Write trials.parquet, plots and summary.md to the search's folder.

    Args:
        study: with at least one finished trial.
        search: its settings.
        more: further parts of the summary, as Markdown.
    """
    table(study, search).write_parquet(search.folder / TRIALS)
    plots = save_plots(study, search)
    save_text(search.folder / SUMMARY, "\n\n".join([*_summary(study, search, plots), *more]) + "\n")


def table(study: Study, search: Search) -> pl.DataFrame:
    """One row a trial, in the order of their numbers.

    Columns: number, state, feasible, seconds; a setting's is its name, a measure's is
    `measure.<name>`, that of how far a bounded one is outside `excess.<name>`.
    """
    trials = study.get_trials(deepcopy=False)
    rows: list[dict[str, Any]] = []
    for trial in trials:
        seconds = trial.duration.total_seconds() if trial.duration else None
        rows.append(
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "feasible": feasible(trial),
                "seconds": seconds,
                **settings_of(trial, search),
                **{f"measure.{k}": v for k, v in trial.user_attrs.get(MEASURES, {}).items()},
                **{f"excess.{k}": v for k, v in trial.constraints.items()},
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None, strict=False)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers in four digits."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(told, line)) + " |" for line in lines)


def told(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {told(part)}" for name, part in value.items())
    return str(value)


def _summary(study: Study, search: Search, plots: Sequence[str]) -> list[str]:
    trials = study.get_trials(deepcopy=False)
    states = [trial.state.name.lower() for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    best = front(study, search)
    wanted = ", ".join(f"{name} ({way})" for name, way in search.objectives.items())
    parts = [
        f"# {search.name}",
        f"Study `{fingerprint(study)}`: {len(trials)} trials ({counts}), proposed by "
        f"{search.sampler.kind}. Objectives: {wanted}. "
        f"All trials: `{TRIALS}`.",
    ]
    for name, bound in search.constraints.items():
        limits = bound.model_dump(exclude_none=True, exclude={"of_default"})
        unit = " times what the settings give untuned" if bound.of_default else ""
        parts.append(f"Bound: {name} {told(limits)}{unit}.")
    if best:
        several = len(search.objectives) > 1
        parts += [f"## {'No trial beats these' if several else 'Best'}", _best(best, search)]
    else:
        parts.append("No trial is within all bounds.")
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in plots]
    return parts


def _best(best: Sequence[FrozenTrial], search: Search) -> str:
    settings = list(search.space)
    rows = [
        [trial.number, *trial.values, *(settings_of(trial, search).get(n, "") for n in settings)]
        for trial in best[:_SHOWN]
    ]
    return markdown(["trial", *search.objectives, *settings], rows)

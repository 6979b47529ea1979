"""Searches the blend of a feed: trials order logged requests anew, in this process or on Ray.

Tuned on visits of the validation days, reported once on those of the test days, which are read
only when the last trial is finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs import load
from pipelines.feed.discover import FeedConfig
from pipelines.prepared import read_manifest
from train import bundle as bundles
from train.bundle import BundleError
from train.tuning.blended import Blended
from train.tuning.measures import calibration, means
from train.tuning.pages import Measured, Pages, joined
from train.tuning.ready import make_ready, stages_of, with_judges
from train.tuning.replayed import ModelsThen
from train.tuning.settings import BlendSearch
from train.tuning.space import distributions, extremes
from train.tuning.study import finished, note, opened, settings_of
from train.tuning.visits import visits

DEFAULT = "default"


class Executor(Protocol):
    """Measures trials, some at a time."""

    @property
    def num_at_once(self) -> int:
        """Trials."""

    @property
    def num_chunks(self) -> int:
        """Of a trial."""

    def submit(self, settings: dict[str, Any], chunk: int) -> Future[Measured]:
        """As `Pages.measure`."""


@dataclass
class Here:
    """One at a time, in this process."""

    pages: Pages
    num_at_once: int = 1

    @property
    def num_chunks(self) -> int:
        """Of a trial."""
        return self.pages.num_chunks

    def submit(self, settings: dict[str, Any], chunk: int) -> Future[Measured]:
        """Done when it returns."""
        future: Future[Measured] = Future()
        future.set_result(self.pages.measure(settings, chunk))
        return future


@dataclass
class Bench:
    """What a blend search works on.

    Attributes:
        pages: of the visits tuned on.
        default: what they measure with the bundle's own settings.
        test: makes the pages of the visits to test on; call it once, at the end.
    """

    pages: Pages
    default: dict[str, float]
    test: Callable[[], Pages]


def search(config: BlendSearch, then: Callable[[Study, Bench], None] = lambda *_: None) -> None:
    """Run the trials that are still to do.

    Args:
        config: of the search.
        then: what to do with the study at the end.

    Raises:
        ConfigError: a setting of the space that there is not, or may not have such a value.
        StudyError: as `study.opened`, or a measure that the visits cannot tell.
        BundleError: the data is not what the bundle was trained on.
        ValueError: the splits are not one after the other.
    """
    bundle, feed = bundles.load(config.bundle), load(config.feed, FeedConfig)
    manifest = read_manifest(Path(config.data))
    if manifest["fingerprint"] != bundle.card["data_fingerprint"]:
        raise BundleError(f"{config.bundle}: not trained on {config.data}; give its own data")
    made_of = {
        "data_fingerprint": manifest["fingerprint"],
        "bundle_card": {k: v for k, v in bundle.card.items() if k != "metrics"},
        "bundle_weights": bundle.weights.tolist(),
        "feed_settings": feed.model_dump(mode="json"),
    }
    check_space(config, bundle, feed)
    with opened(config, made_of) as study:
        bench = prepare(config, bundle, feed)
        study.set_user_attr(DEFAULT, bench.default)
        with _executor(config, bench.pages) as executor:
            run_trials(study, config, executor, bench.default)
        then(study, bench)


def prepare(config: BlendSearch, bundle: bundles.Bundle, feed: FeedConfig) -> Bench:
    """Make the requests ready.

    Raises:
        ConfigError, ValueError: as `search`.
    """
    data = Path(config.data)
    tuned_on = visits(data, "validate", config.num_requests, config.page)
    models = ModelsThen(bundle, data)
    made = make_ready(tuned_on, config, feed, models)
    scale = calibration([known for _, known in made])

    def pages(ready: Any) -> Pages:
        requests = with_judges(ready, scale, models)
        return Pages(requests, bundle, feed, config.space, config.num_chunks, config.num_fields)

    def test() -> Pages:
        num = config.num_test_requests
        tested_on = visits(data, "test", num, config.page, after=tuned_on)
        return pages(make_ready(tested_on, config, feed, models))

    found = pages(made)
    return Bench(found, found.means({}), test)


def check_space(config: BlendSearch, bundle: bundles.Bundle, feed: FeedConfig) -> None:
    """See that settings of the space are allowed, each end and choice among them.

    Raises:
        ConfigError, WiringError: some are not.
    """
    for settings in extremes(config.space):
        stages_of(feed, Blended.of(bundle, feed, settings).feed)


@contextmanager
def _executor(config: BlendSearch, pages: Pages) -> Iterator[Executor]:
    """Ray's where there is a cluster or more than one worker is asked for."""
    if config.num_workers == 1 or not (config.num_workers or os.environ.get("RAY_ADDRESS")):
        yield Here(pages)
        return
    from train.tuning.cluster import on_cluster

    with on_cluster(pages.requests, config, config.num_workers, pages.num_chunks) as executor:
        yield executor


def run_trials(
    study: Study, config: BlendSearch, executor: Executor, default: Mapping[str, float]
) -> None:
    """Ask, measure and tell until `num_trials` are finished, in this or an earlier process."""
    study.pruner = _pruner(config)
    space, running = distributions(config.space), dict[Future[Measured], _Running]()
    num_before = len(finished(study))
    columns = (TextColumn("Trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[best]}"), transient=True) as progress:
        bar = progress.add_task("", total=config.num_trials, completed=num_before, best="")
        left = config.num_trials - num_before
        while left > 0 or running:
            while left > 0 and len(running) < executor.num_at_once:
                trial = study.ask(space)
                begun = _Running(trial, settings_of(trial, config))
                running[executor.submit(begun.settings, 0)] = begun
                left -= 1
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                begun = running.pop(future)
                begun.chunks.append(future.result())
                whole = len(begun.chunks) == executor.num_chunks
                if _go_on(begun, study, config, default, whole):
                    running[executor.submit(begun.settings, len(begun.chunks))] = begun
                else:
                    progress.update(bar, advance=1, best=_best(study))


@dataclass
class _Running:
    trial: Trial
    settings: dict[str, Any]
    chunks: list[Measured] = field(default_factory=list)


def _go_on(
    begun: _Running, study: Study, config: BlendSearch, default: Mapping[str, float], whole: bool
) -> bool:
    """Whether another chunk is to be measured; else the trial is told what came of it."""
    trial, measured = begun.trial, means(joined(begun.chunks))
    if whole:
        study.tell(trial, note(trial, config, measured, default))
        return False
    if len(config.objectives) == 1 and config.pruner == "median":
        value = measured[next(iter(config.objectives))]
        if np.isfinite(value):
            trial.report(value, len(begun.chunks))
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                return False
    return True


def _pruner(config: BlendSearch) -> optuna.pruners.BasePruner:
    if config.pruner == "none" or len(config.objectives) > 1:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=config.sampler.num_startup)


def _best(study: Study) -> str:
    if len(study.directions) > 1:
        return ""
    try:
        return f"best {study.best_value:.4g}"
    except ValueError:  # none is finished and within bounds
        return ""

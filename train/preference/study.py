"""`python -m train.preference.study [key=value ...]`: who gains, who loses, and what foretells it.

Learns stakeholders' weights from pairs on the public sets whose files are in the folder `data`,
and on the made-up pool, and writes train/reports/preference.json, its page and its plots. Sets
that are missing are left out, and the report says what to fetch. Published figures stand beside
ours with a verdict each.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from configs import Config, ConfigError, check, near_miss, parse_overrides
from pipelines.data.reader import InputError
from train.bundle import BundleError
from train.preference import budget, decoupling, directions, frontier, goodhart, labels, protocol
from train.preference.checks import checks
from train.preference.claims import claims
from train.preference.plots import draw
from train.preference.real import REAL, real_preferences
from train.preference.selection import TOP
from train.preference.space import Space
from train.preference.stakeholders import kindle, mind, movielens, synthetic
from train.preference.training import FitConfig
from train.report import REPORTS, header, plain
from train.report_plots import write_with_plots

T = TypeVar("T")

NAME = "preference"
_log = logging.getLogger(__name__)


class StudyConfig(Config):
    """What is studied, and from where."""

    data: str = "artifacts/downloads"  # folder of the public sets' archives
    kuairand: str = "artifacts/data/kuairand"  # prepared; real preferences come from its test days
    bundle: str | None = None  # whose ranker real preferences are held against
    reports: str = str(REPORTS)
    sets: tuple[str, ...] = ("synthetic", "ml_100k", "ml_1m", "mind", "kindle")
    real: tuple[str, ...] = REAL
    seeds: tuple[int, ...] = Field(default=goodhart.SEEDS, min_length=1)
    budgets: tuple[PositiveInt, ...] = Field(default=(25, 50, 100, 200, 500), min_length=1)
    num_budget_seeds: PositiveInt = 20  # 42, 142, ...
    num_random_pairs: PositiveInt = Field(default=200, ge=2)  # each in both directions
    seed: int = 0  # of the random pairs
    fit: FitConfig = FitConfig()
    # Of decoupling, with the published ends.
    steps: tuple[PositiveInt, ...] = Field(default=(50, 250, 1_250), min_length=2)
    num_curve_seeds: PositiveInt = 25  # of the made-up pool's curves, at most
    num_workers: PositiveInt = 2  # processes, each of one thread and busy with one set at a time

    @field_validator("sets", "real")
    @classmethod
    def _known(cls, names: tuple[str, ...], of: ValidationInfo) -> tuple[str, ...]:
        have = SETS if of.field_name == "sets" else REAL
        for name in names:
            if name not in have:
                raise ValueError(f"{name}: no such set{near_miss(name, have)}")
        return names

    @field_validator("budgets", "steps")
    @classmethod
    def _ascending(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if any(low >= high for low, high in pairwise(numbers)):
            raise ValueError("must grow: prices lie between neighbours, changes between the ends")
        return numbers

    @property
    def budget_seeds(self) -> list[int]:
        """One a draw of pairs."""
        return [42 + 100 * at for at in range(self.num_budget_seeds)]


SETS: dict[str, Callable[[Path], Space]] = {
    "synthetic": lambda _: synthetic.space(),
    "ml_100k": lambda folder: movielens.space("ml_100k", movielens.read_100k(folder)[0]),
    "ml_1m": lambda folder: movielens.space("ml_1m", movielens.read_1m(folder)[0]),
    "mind": mind.read,
    "kindle": kindle.read,
}
# Whose true weights the geometric frontier is made by, and the pairs that decoupling looks at.
_SCORER = {"synthetic": "platform", "mind": "publisher", "kindle": "publisher"}
_DECOUPLED = {
    "mind": (("reader", "journalist"), ("reader", "civic_diversity")),
    "kindle": (("reader", "premium_seller"), ("publisher", "diversity")),
    "synthetic": (("user", "platform"), ("user", "society")),
}


def study(config: StudyConfig) -> Path:
    """Run all parts that the files allow; returns the page's path."""
    started = time.monotonic()
    spaces, left_out = _spaces(config)
    head = header(" ".join(map(_fingerprint, spaces.values())), config.seeds)
    parts: dict[str, Callable[[], Any]] = {
        name: partial(of_set, space, config) for name, space in spaces.items()
    }
    parts["real"] = partial(real_preferences, config.real, config)
    if "synthetic" in spaces:
        curve_seeds = protocol.CURVE_SEEDS[: config.num_curve_seeds]
        parts["protocol"] = partial(protocol.synthetic_protocol, curve_seeds)
    done, seconds, cpu = _run(parts, config.num_workers)
    real, real_left_out = done["real"]
    results = plain(
        {
            "sets": {name: done[name] for name in spaces},
            "protocol": done.get("protocol"),
            "audit": protocol.audits(),
            "real": real,
        }
    )
    record = {
        "page": "train.preference.page",
        "header": head,
        "settings": config.model_dump(mode="json", exclude={"reports"}),
        "seconds": {"wall": time.monotonic() - started, "cpu": cpu, **seconds},
        "left_out": left_out | real_left_out,
        "checks": checks(results),
        "claims": claims(results),
        **results,
    }
    return write_with_plots(NAME, record, config.reports, draw)


def _run(
    parts: Mapping[str, Callable[[], Any]], num_workers: int
) -> tuple[dict[str, Any], dict[str, float], float]:
    """Results of all parts, seconds that each took on the wall, and CPU seconds of all."""
    if num_workers == 1:
        timed = {name: _timed(part) for name, part in parts.items()}
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(num_workers, spawn, torch.set_num_threads, (1,)) as pool:
            futures = {name: pool.submit(_timed, part) for name, part in parts.items()}
            timed = {name: future.result() for name, future in futures.items()}
    for name, (_, wall, cpu) in timed.items():
        _log.info("%s: %.0f s, of them %.0f s of CPU", name, wall, cpu)
    results = {name: result for name, (result, _, _) in timed.items()}
    seconds = {name: wall for name, (_, wall, _) in timed.items()}
    return results, seconds, sum(cpu for _, _, cpu in timed.values())


def _timed(part: Callable[[], T]) -> tuple[T, float, float]:
    started, busy = time.monotonic(), time.process_time()
    result = part()
    return result, time.monotonic() - started, time.process_time() - busy


def of_set(space: Space, config: StudyConfig) -> dict[str, Any]:
    """All that is asked of one set."""
    learned = goodhart.learn_all(space, config.seeds, config.fit)
    by_cosine = goodhart.cosines(space, learned)
    rows = list(goodhart.ordered_pairs(space, by_cosine, goodhart.changes(space, learned)))
    selections = list(rows[0]["change"])
    scorer = space.of_stakeholder(_SCORER.get(space.name, "platform"))
    curves = budget.curves(space, config.budgets, config.budget_seeds, config.fit)
    return {
        "items": len(space.features),
        "features": space.features.shape[1],
        "stakeholders": list(space.stakeholders),
        "story": dict(space.story),
        "accuracy": dict(zip(space.stakeholders, learned.accuracy.mean(axis=0), strict=True)),
        "pairs": rows,
        "matches": {
            selection: {name: goodhart.matches(rows, name, selection) for name in goodhart.COSINES}
            for selection in selections
        },
        "frontier": frontier.frontier(space, space.weights.mean(axis=0)),
        "geometric": {
            name: of | {"published_could_be": frontier.regret_interval(space, scorer)[name]}
            for name, of in frontier.geometric_regret(space, scorer).items()
        },
        "budget": curves,
        "budget_medians": budget.medians(curves),
        "decoupling": [
            decoupling.decouple(
                space, target, hidden, steps=config.steps, seeds=config.seeds, fit=config.fit
            )
            for target, hidden in _DECOUPLED.get(
                space.name, (("user", "platform"), ("user", "diversity"))
            )
        ],
        "by_loss": labels.by_loss(space, config.seeds, config.fit),
        "by_setting": labels.by_setting(space, config.seeds, config.fit),
        "composition": labels.composition(space, config.seeds, config.fit),
        "predictors": directions.predictors(
            space, config.num_random_pairs, config.seed, config.seeds, config.fit
        ),
    }


def _spaces(config: StudyConfig) -> tuple[dict[str, Space], dict[str, str]]:
    """The sets that are there, and what is missing of the others."""
    spaces, left_out = {}, {}
    for name in config.sets:
        try:
            space = SETS[name](Path(config.data))
            if len(space.features) < TOP:
                raise InputError(f"{name}: {len(space.features)} items, and a slate has {TOP}")
            spaces[name] = space
        except InputError as error:
            _log.warning("%s: left out: %s", name, error)
            left_out[name] = str(error)
    return spaces, left_out


def _fingerprint(space: Space) -> str:
    """Of the numbers that a set's results depend on."""
    digest = hashlib.sha256()
    for values in (space.features, space.topic, space.weights):
        digest.update(np.ascontiguousarray(values).tobytes())
    return f"{space.name}:{digest.hexdigest()[:12]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Study from the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        overrides = parse_overrides(sys.argv[1:] if arguments is None else arguments)
        page = study(check(overrides, StudyConfig, place="train.preference.study"))
    except (ConfigError, InputError, BundleError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{page}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())

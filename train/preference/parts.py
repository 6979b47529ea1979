"""What each part of the study measures.

A part is a function of the settings that gives its results and the fingerprint of its data, and
raises an InputError that says what to fetch where these are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.data.reader import InputError
from train.preference import (
    budget,
    composition,
    decoupling,
    directions,
    frontier,
    goodhart,
    labels,
    protocol,
)
from train.preference.real import kuairand
from train.preference.real import movielens as rated
from train.preference.selection import TOP
from train.preference.settings import OF_ACTIONS, SETS, StudyConfig
from train.preference.space import Space, fingerprint
from train.preference.stakeholders import kindle, mind, movielens, synthetic
from train.preference.world import verified

Part = Callable[[StudyConfig], tuple[Any, str]]

SPACES: dict[str, Callable[[Path], Space]] = {
    OF_ACTIONS: lambda _: synthetic.space(),
    "ml_100k": lambda folder: movielens.space("ml_100k", movielens.read_100k(folder)[0]),
    "ml_1m": lambda folder: movielens.space("ml_1m", movielens.read_1m(folder)[0]),
    "mind": mind.read,
    "kindle": kindle.read,
}
# Whose true weights the geometric frontier is made by, and the pairs that decoupling looks at.
_SCORER = {"mind": "publisher", "kindle": "publisher"}
_DECOUPLED = {
    "mind": (("reader", "journalist"), ("reader", "civic_diversity")),
    "kindle": (("reader", "premium_seller"), ("publisher", "diversity")),
    OF_ACTIONS: (("user", "platform"), ("user", "society")),
}


def of_set(name: str, config: StudyConfig) -> tuple[dict[str, Any], str]:
    """All that is asked of one set.

    Raises:
        InputError: its files are missing, or hold fewer items than a slate.
    """
    space = SPACES[name](Path(config.data))
    if len(space.features) < TOP:
        raise InputError(f"{name}: {len(space.features)} items, and a slate has {TOP}")
    learned = goodhart.learn_all(space, config.seeds, config.fit)
    scorer = space.of_stakeholder(_SCORER.get(name, "platform"))
    curves = budget.curves(space, config.budgets, config.budget_seeds, config.fit)
    pairs = _DECOUPLED.get(name, (("user", "platform"), ("user", "diversity")))
    found = {
        "items": len(space.features),
        "features": space.features.shape[1],
        "story": dict(space.story),
        **_who_gains(space, learned),
        "levels": goodhart.levels(space, learned),
        "frontier": frontier.frontier(space, space.weights.mean(axis=0)),
        "geometric": _geometric(space, scorer),
        "budget": curves,
        "budget_medians": budget.medians(curves),
        "decoupling": [
            decoupling.decouple(
                space, target, hidden, steps=config.steps, seeds=config.seeds, fit=config.fit
            )
            for target, hidden in pairs
        ],
        "by_loss": labels.by_loss(space, config.seeds, config.fit),
        "by_setting": labels.by_setting(space, config.seeds, config.fit),
        "composition": composition.composition(space, config.fit),
        "predictors": directions.predictors(
            space, config.num_random_pairs, config.seed, config.seeds, config.fit
        ),
    }
    if name == OF_ACTIONS:
        starts = {"given": space, "neutral": synthetic.space(neutral=True)}
        found["constrained"] = labels.constrained(starts, config.seeds, config.fit)
    else:
        seeds = protocol.CURVE_SEEDS[: config.num_curve_seeds]
        found["curve"] = protocol.target_curve(space, seeds, config.fit)
    return found, fingerprint(space.features, space.topic, space.weights)


def _who_gains(space: Space, learned: goodhart.Learned) -> dict[str, Any]:
    by_cosine = goodhart.cosines(space, learned)
    rows = list(goodhart.ordered_pairs(space, by_cosine, goodhart.changes(space, learned)))
    return {
        "stakeholders": list(space.stakeholders),
        "accuracy": dict(zip(space.stakeholders, learned.accuracy.mean(axis=0), strict=True)),
        "pairs": rows,
        "matches": {
            selection: {name: goodhart.matches(rows, name, selection) for name in goodhart.COSINES}
            for selection in rows[0]["change"]
        },
    }


def _geometric(space: Space, scorer: int) -> dict[str, dict[str, Any]]:
    """Regret of leaving each out: of distinct slates, as published, and what rounding can do."""
    published = frontier.regret_as_published(space, scorer)
    ranges = frontier.regret_interval(space, scorer)
    return {
        name: of | {"as_published": published[name], "published_could_be": ranges[name]}
        for name, of in frontier.geometric_regret(space, scorer).items()
    }


def random_split(config: StudyConfig) -> tuple[dict[str, Any], str]:
    """ML-100K once more, of training ratings drawn from all: what a split changes.

    Raises:
        InputError: its files are missing.
    """
    space = movielens.space("ml_100k", movielens.read_100k_at_random(Path(config.data)))
    learned = goodhart.learn_all(space, config.seeds, config.fit)
    found = {
        "items": len(space.features),
        **_who_gains(space, learned),
        "by_loss": labels.by_loss(space, config.seeds, config.fit),
    }
    return found, fingerprint(space.features, space.topic, space.weights)


def _protocol(config: StudyConfig) -> tuple[dict[str, Any], str]:
    seeds = protocol.CURVE_SEEDS[: config.num_curve_seeds]
    space = synthetic.space()
    return protocol.synthetic_protocol(seeds), fingerprint(space.features, space.topic)


MAKE: dict[str, Part] = {
    **{name: partial(of_set, name) for name in SETS},
    "random_split": random_split,
    "protocol": _protocol,
    "kuairand": kuairand.measure,
    "movielens": rated.measure,
    "world": lambda config: verified(config.world),
}

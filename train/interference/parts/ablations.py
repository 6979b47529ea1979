"""What each piece of the field is worth, alone and as features of boosted trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.interference.columns import Groups, waves
from train.interference.lift import differences, rank
from train.interference.measures import MEASURES, Floats, measures, paired, summary
from train.interference.parts.features import Maker
from train.interference.rankers import MOST, field
from train.interference.ratings import DISLIKED, NEUTRAL, Ratings
from train.interference.spaces import factors, unit
from train.interference.split import Split, published
from train.interference.study import StudyConfig, World
from train.interference.tables import interval, measured
from train.models.fractal.config import FieldConfig
from train.report_tables import Lines, table

_WAVES = 16
PLAIN = f"{_WAVES} random waves"
QUANTILES = (0.5, 0.25, 0.1, 0.01)
# Variant -> changes of the settings; PLAIN is without any.
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "4 random waves": {"num_waves": 4},
    "8 random waves": {"num_waves": 8},
    "64 random waves": {"num_waves": 64},
    "principal waves": {"waves": "pca"},
    "no phase": {"phase": False},
    "no envelope": {"envelope": False},
    "no phase, scales at quantiles": {"phase": False, "quantiles": QUANTILES},
    "scales at quantiles": {"quantiles": QUANTILES},
    "λ 0.65": {"base_scale": 0.65},
    "λ 1.3": {"base_scale": 1.3},
    "λ 5.2": {"base_scale": 5.2},
    "λ 10.4": {"base_scale": 10.4},
    "no dimension": {"dimension_weight": 0.0},
    "dimension × 4": {"dimension_weight": 4.0},
    "half-life 10 events": {"half_life": 10.0},
    "half-life 50 events": {"half_life": 50.0},
    "no suppression": {"destructive_gain": 0.0},
    "unguarded": {"guarded": False},
}
AS_FEATURES = (
    PLAIN,
    "64 random waves",
    "no phase",
    "no envelope",
    "scales at quantiles",
    "no phase, scales at quantiles",
    "λ 5.2",
    "half-life 10 events",
)
TOTAL_ONLY, NO_DIMENSION, SIGNED = "total only", "scales only", "signed, separate columns"
SETTINGS = ("split", "factors", "encode", "ablation_seeds", "lift", "ablation_set")


def results(world: World) -> dict[str, Any]:
    """Variants alone, by space of vectors, and as features."""
    config = world.config
    ratings = world.ratings(config.ablation_set)
    if ratings is None:
        return {"alone": {}, "features": {}}
    split = published(ratings, config.split)
    spaces: dict[str, NDArray | None] = {
        "als": unit(factors(ratings, split.train, config.factors).item),
        "text": world.texts(config.ablation_set),
    }
    return {
        "set": config.ablation_set,
        "num_seeds": config.ablation_seeds,
        "alone": {
            space: _alone(vectors.astype(np.float32), split, config)
            for space, vectors in spaces.items()
            if vectors is not None
        },
        "features": {
            regime: _features(ratings, config, cold=cold)
            for regime, cold in (("all history", False), ("cold start", True))
        },
    }


def _alone(vectors: NDArray, split: Split, config: StudyConfig) -> dict[str, Any]:
    values: dict[str, dict[str, Floats]] = {}
    for name, changes in VARIANTS.items():
        made = FieldConfig.model_validate({"num_waves": _WAVES, **changes})
        random = made.waves == "random" and made.phase
        draws = [
            measures(field(vectors, split, made.model_copy(update={"seed": seed})).total(), split)
            for seed in range(config.ablation_seeds if random else 1)
        ]
        values[name] = {key: np.mean([d[key] for d in draws], axis=0) for key in MEASURES}
    return {
        "variants": {name: summary(of) for name, of in values.items()},
        "differences": {
            key: paired(
                {name: of[key] - values[PLAIN][key] for name, of in values.items() if name != PLAIN}
            )
            for key in ("ndcg_10", "tail_50")
        },
    }


def _features(ratings: Ratings, config: StudyConfig, *, cold: bool) -> dict[str, Any]:
    """Each variant's columns over `base`, and the signed ones."""
    base = Maker(ratings, config, None, cold=cold, fields={})
    fields = {
        name: FieldConfig.model_validate({"num_waves": _WAVES, **VARIANTS[name]})
        for name in AS_FEATURES
    }

    def make(split: Split) -> Groups:
        found = {"base": base(split)["base"]}
        vectors = unit(base.learned(split).item).astype(np.float32)
        for name, made in fields.items():
            found[name] = waves(vectors, split, made)
        plain = found[PLAIN]
        found[TOTAL_ONLY] = {"total": plain["total"]}
        found[NO_DIMENSION] = {k: of for k, of in plain.items() if k.startswith("scale")}
        signed = FieldConfig(num_waves=_WAVES, signed=True)
        found[SIGNED] = waves(vectors, with_dislikes(split.newest(MOST), ratings), signed, 2 * MOST)
        return found

    arms = {"base": ("base",)} | {
        name: ("base", name) for name in (*fields, TOTAL_ONLY, NO_DIMENSION, SIGNED)
    }
    most = config.lift.cold_history if cold else None
    ranked = rank(ratings, config.lift, arms, make, most)
    pairs = [(name, "base") for name in arms if name != "base"]
    return {
        "arms": {arm: summary(of) for arm, of in ranked.values.items()},
        "differences": differences(ranked.values, pairs),
    }


def with_dislikes(split: Split, ratings: Ratings) -> Split:
    """The same with as many of each viewer's newest dislikes behind the history as it is long.

    Dislikes are those that may be learned from, whenever they were given; they have negative
    amplitudes.
    """
    rows, start = ratings.rows_of(split.train & (ratings.value <= DISLIKED))
    width = split.history.shape[1]
    history = np.full((len(split.viewer), 2 * width), -1)
    amplitude = np.zeros(history.shape)
    for at, (viewer, length) in enumerate(zip(split.viewer, split.lengths, strict=True)):
        own = rows[start[viewer] : start[viewer + 1]][-length:] if length else rows[:0]
        end = len(own) + length
        history[at, : len(own)] = ratings.item[own]
        amplitude[at, : len(own)] = ratings.value[own] - NEUTRAL
        history[at, len(own) : end] = split.history[at, :length]
        amplitude[at, len(own) : end] = split.amplitude[at, :length]
    return replace(split, history=history, amplitude=amplitude)


def section(part: Mapping[str, Any]) -> Lines:
    """Ablations."""
    lines = ["## What each piece is worth", ""]
    if not part["alone"]:
        return lines
    lines += [
        f"{part['set']}; each row changes one thing of a guarded field of {PLAIN} (means over "
        f"{part['num_seeds']} draws of directions where they are at random). Differences to that "
        "field, 95 % intervals, **bold** after Holm's correction. A wavelength of 2.6 is about "
        "what twice the median distance gives.",
        "",
    ]
    for space, found in part["alone"].items():
        lines += [f"### Alone, {space}", "", *measured(found["variants"])]
        rows = (
            (name, *(interval(of[name]) for of in found["differences"].values()))
            for name in found["differences"]["ndcg_10"]
        )
        lines += table(("less the plain field", *_heads(found["differences"])), rows)
    for regime, found in part["features"].items():
        lines += [f"### As features over `base`, {regime}", ""]
        rows = (
            (pair, *(interval(of[pair]) for of in found["differences"].values()))
            for pair in found["differences"]["ndcg_10"]
        )
        lines += table(("", *_heads(found["differences"])), rows)
    return lines


def _heads(of: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(MEASURES[key] for key in of)

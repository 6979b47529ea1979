"""The field among the inputs of the neural ranker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from train.interference.learned import ranker_scores
from train.interference.lift import by_length, repeated, stopping, told
from train.interference.parts.features import BY_LENGTH, arms_section
from train.interference.rankers import KERNEL
from train.interference.ratings import Floats, Ratings
from train.interference.split import Split
from train.interference.study import StudyConfig, World
from train.models.fractal.config import FieldConfig
from train.models.likeness import LikenessConfig
from train.report_tables import Lines

PAIRS = (
    ("local", "base"),
    ("kernel", "base"),
    ("field", "base"),
    ("field", "local"),
    ("field", "kernel"),
)
SETTINGS = ("encode", "lift", "spaces", "phoenix", "text_lift_sets")


def arms(num_waves: int) -> dict[str, LikenessConfig | None]:
    """What the ranker reads beside what it always reads."""
    return {
        "base": None,
        "local": LikenessConfig(kind="nearest"),
        "kernel": LikenessConfig(field=KERNEL),
        "field": LikenessConfig(field=FieldConfig(num_waves=num_waves)),
    }


def results(world: World) -> dict[str, Any]:
    """Set -> space -> arms and differences."""
    config = world.config
    found: dict[str, Any] = {}
    for name, ratings in world.here(config.phoenix.sets).items():
        spaces = {"towers": world.towers(name)}
        if name in config.text_lift_sets:
            spaces["text"] = world.texts(name)
        found[name] = {
            space: _of_space(ratings, vectors, config)
            for space, vectors in spaces.items()
            if vectors is not None
        }
    return {"sets": found, "num_repeats": config.phoenix.num_repeats}


def _of_space(ratings: Ratings, vectors: NDArray, config: StudyConfig) -> dict[str, Any]:
    lift = config.lift.model_copy(update={"num_repeats": config.phoenix.num_repeats})

    def score(learn: Split, test: Split, repeat: int) -> dict[str, Floats]:
        run = config.phoenix.run
        run = run.model_copy(update={"seed": run.seed + repeat})
        stops = stopping(learn, lift, repeat)
        return {
            arm: ranker_scores(ratings, vectors, learn, stops, test, run, likeness)
            for arm, likeness in arms(lift.num_waves).items()
        }

    ranked = repeated(ratings, lift, score)
    return told(ranked, PAIRS) | {"by_length": by_length(ranked, BY_LENGTH)}


def section(part: Mapping[str, Any]) -> Lines:
    """The field as an input of the ranker."""
    lines = [
        "## As inputs of the neural ranker",
        "",
        "A small Phoenix ranker (one layer of 32, no tables of ids) learns by the project's own "
        "learner from the rows that the trees learn from, and ranks the same candidates. `base` "
        "reads the history and the candidates by their vectors, and how often each was rated, "
        "liked and given five stars. The other arms add to each candidate's token what `likeness` "
        "of the served ranker computes from the newest 64 likes. `local`: cosines of the nearest "
        "and the five nearest. `field`: its scales, total and sign, and the dimension. `kernel`: "
        "the same numbers of the same sums without waves, so that field − kernel is what the waves "
        "add. "
        f"Draws of negatives and of weights: {part['num_repeats']}.",
        "",
    ]
    return lines + arms_section(part["sets"], knows_vectors=True)

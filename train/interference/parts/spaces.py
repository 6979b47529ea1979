"""The field alone and as features, in spaces that the product's own models learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from train.interference.lift import Arms, repeated, told, tree_scores
from train.interference.parts.features import Maker, arms_section
from train.interference.parts.rankers import LOCAL, PHASE_FREE
from train.interference.rankers import KERNEL, TOP, field, nearest, popular
from train.interference.ratings import Floats, Ratings
from train.interference.split import Split
from train.interference.study import StudyConfig, World
from train.models.fractal.config import FieldConfig
from train.report_tables import Lines

ALONE = "alone: "
FIELD = ALONE + "field"
ARMS: Arms = {
    "base": ("base",),
    "local": ("base", "local"),
    "kernel": ("base", "kernel"),
    "field": ("base", "field"),
}
PAIRS = (
    *((FIELD, ALONE + other) for other in ("popular", LOCAL, PHASE_FREE)),
    ("local", "base"),
    ("kernel", "base"),
    ("field", "base"),
    ("field", "local"),
    ("field", "kernel"),
)
SETTINGS = ("factors", "encode", "lift", "spaces", "text_lift_sets")


def results(world: World) -> dict[str, Any]:
    """Set -> space -> arms and differences."""
    found: dict[str, Any] = {}
    for name, ratings in world.here(world.config.spaces.sets).items():
        spaces = {"towers": world.towers(name)}
        if name in world.config.text_lift_sets:
            spaces["prefix"] = world.prefixes(name)
        found[name] = {
            space: _of_space(ratings, vectors, world.config)
            for space, vectors in spaces.items()
            if vectors is not None
        }
    return {"sets": found, "num_repeats": world.config.spaces.num_repeats}


def _of_space(ratings: Ratings, vectors: NDArray, config: StudyConfig) -> dict[str, Any]:
    """Trees, and what their columns are made of alone, of the same candidates."""
    lift = config.lift.model_copy(update={"num_repeats": config.spaces.num_repeats})
    trees = tree_scores(lift, ARMS, Maker(ratings, config, vectors, cold=False))
    waves = FieldConfig(num_waves=config.spaces.num_waves)

    def score(learn: Split, test: Split, repeat: int) -> dict[str, Floats]:
        alone = {
            "popular": popular(test),
            LOCAL: nearest(vectors, test, TOP),
            PHASE_FREE: field(vectors, test, KERNEL).total(),
            "field": field(vectors, test, waves).total(),
        }
        named = {ALONE + name: of for name, of in alone.items()}
        return {**named, **trees(learn, test, repeat)}

    return told(repeated(ratings, lift, score), PAIRS)


def section(part: Mapping[str, Any]) -> Lines:
    """Towers and prefix heads."""
    lines = [
        "## Vectors of two towers and of prefix heads",
        "",
        "The candidates and the trees of the last sections. `towers`: vectors of posts by the "
        "project's two towers, which learned what is liked next from the ratings that factors "
        "know, too; `prefix`: MiniLM's vectors of titles and genres through a prefix head of our "
        "own, whose coarse part learned each film's first genre. `alone` ranks by one number: "
        "likes, the mean cosine of the nearest likes, the kernels' sum, the sum of a field of 64 "
        "random waves. The other arms are trees. `base` knows factors and popularity, and none of "
        "these vectors: what is gained over it is what the vectors tell. Draws of negatives: "
        f"{part['num_repeats']}.",
        "",
    ]
    return lines + arms_section(part["sets"])

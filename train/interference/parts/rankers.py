"""The guarded field beside what needs no waves, on several sets and spaces of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.interference.measures import MEASURES, Floats, measures, paired, summary
from train.interference.rankers import beside, drawn, field, popular
from train.interference.spaces import factors, unit
from train.interference.split import Split, published
from train.interference.study import StudyConfig, World
from train.interference.tables import interval, measured
from train.models.fractal.config import GUARDED, FieldConfig
from train.report_tables import Lines, table

WAVES = (GUARDED.num_waves, 16, 64)
LOCAL = "nearest 5"
PHASE_FREE = "kernels"


def waves_name(num: int) -> str:
    """How a field of so many directions at random is called."""
    return f"field, {num} random waves"


SETTINGS = ("split", "factors", "encode", "num_seeds", "ranker_sets")


def results(world: World) -> dict[str, Any]:
    """Set -> space -> rankers and comparisons."""
    found: dict[str, Any] = {}
    for name, ratings in world.here(world.config.ranker_sets).items():
        split = published(ratings, world.config.split)
        learned = factors(ratings, split.train, world.config.factors)
        spaces: dict[str, NDArray | None] = {"als": unit(learned.item), "text": world.texts(name)}
        found[name] = {
            "viewers": len(split.viewer),
            "spaces": {
                space: _of_space(vectors.astype(np.float32), split, world.config)
                for space, vectors in spaces.items()
                if vectors is not None
            },
        }
    return {"sets": found}


def _of_space(vectors: NDArray, split: Split, config: StudyConfig) -> dict[str, Any]:
    of: dict[str, dict[str, Floats]] = {
        "random": measures(drawn(split, config.split.seed), split),
        "popular": measures(popular(split), split),
        **{name: measures(scores(), split) for name, scores in beside(vectors, split).items()},
        "field, principal waves": measures(
            field(vectors, split, FieldConfig(waves="pca")).total(), split
        ),
    }
    spread = {}
    for num in WAVES:
        draws = [
            measures(field(vectors, split, FieldConfig(num_waves=num, seed=seed)).total(), split)
            for seed in range(config.num_seeds)
        ]
        of[waves_name(num)] = {
            key: np.mean([draw[key] for draw in draws], axis=0) for key in MEASURES
        }
        means = [np.nanmean(draw["ndcg_10"]) for draw in draws]
        spread[waves_name(num)] = {"least": float(min(means)), "most": float(max(means))}
    ours = [name for name in of if name.startswith("field")]
    against = ("popular", "cosine", LOCAL, PHASE_FREE)
    return {
        "rankers": {name: summary(values) for name, values in of.items()},
        "ndcg_10_by_seed": spread,
        "differences": {
            key: paired({f"{a} − {b}": of[a][key] - of[b][key] for a in ours for b in against})
            for key in ("ndcg_10", "tail_50")
        },
    }


def section(part: Mapping[str, Any]) -> Lines:
    """The guarded field as a ranker."""
    lines = [
        "## The guarded field, alone",
        "",
        "The published protocol; zero vectors neither send nor receive, equal points count once, "
        "directions at random are the same for all viewers (values are means over draws of them). "
        "`kernels` is the same sum without phases. Differences are paired over viewers, 95 % "
        "intervals in brackets; **bold** is clear of zero after Holm's correction for all rows of "
        "the column.",
        "",
    ]
    for name, of in part["sets"].items():
        for space, found in of["spaces"].items():
            lines += [f"### {name}, {_SPACE[space]}", ""]
            lines += measured(found["rankers"], f"{of['viewers']} viewers")
            for ranker, range_ in found["ndcg_10_by_seed"].items():
                lines.append(
                    f"- {ranker}: NDCG@10 of one draw {range_['least']:.4f} to {range_['most']:.4f}"
                )
            differences = found["differences"]
            rows = (
                (pair, *(interval(differences[key][pair]) for key in differences))
                for pair in differences["ndcg_10"]
            )
            lines += ["", *table(("", *(MEASURES[key] for key in differences)), rows)]
    return lines


_SPACE = {"als": "factors of the ratings", "text": "titles and genres by MiniLM"}

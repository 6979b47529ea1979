"""The original's own table, with its candidates and its faults, beside what it left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from train.interference.measures import MEASURES, by_chance, measures, summary
from train.interference.mlp import mlp
from train.interference.rankers import beside, cosine, dot, drawn, field, popular
from train.interference.ratings import Ratings
from train.interference.spaces import factors, unit
from train.interference.split import published
from train.interference.study import StudyConfig, World
from train.interference.tables import measured
from train.models.fractal.config import PUBLISHED
from train.report_tables import Lines, table

_SCALES = (1, 2, 4, 8)
_MLP_SEEDS = 3  # on the first set
# What the original gives, in the order of MEASURES: its code run on ML-100K, and as published.
ORIGINAL: dict[str, dict[str, tuple[float, ...]]] = {
    "ml-100k": {
        "cosine": (0.1095, 0.2214, 0.1536, 0.2342),
        "mlp": (0.2107, 0.3246, 0.2824, 0.3903),
        "field, S = 1": (0.0138, 0.0914, 0.0419, 0.1737),
        "field, S = 2": (0.0181, 0.0965, 0.0473, 0.1835),
        "field, S = 4": (0.0188, 0.0974, 0.0478, 0.1807),
        "field, S = 8": (0.0180, 0.0969, 0.0475, 0.1807),
    },
    "ml-1m": {
        "cosine": (0.1398, 0.2648, 0.1777, 0.3122),
        "mlp": (0.2364, 0.3566, 0.3052, 0.4360),
        "field, S = 1": (0.0454, 0.1321, 0.0746, 0.2038),
        "field, S = 2": (0.0570, 0.1464, 0.0896, 0.2074),
        "field, S = 4": (0.0568, 0.1470, 0.0904, 0.2038),
        "field, S = 8": (0.0552, 0.1463, 0.0895, 0.2060),
    },
}
SETTINGS = ("split", "factors", "mlp", "published_sets")


def results(world: World) -> dict[str, Any]:
    """Each set's table, and how far it is from the original's."""
    config = world.config
    found = {}
    for at, (name, ratings) in enumerate(world.here(config.published_sets).items()):
        found[name] = _of_set(ratings, config, _MLP_SEEDS if at == 0 else 1)
        found[name]["differences"] = _differences(found[name]["rankers"], ORIGINAL.get(name, {}))
    return {"sets": found}


def _of_set(ratings: Ratings, config: StudyConfig, mlp_seeds: int) -> dict[str, Any]:
    split = published(ratings, config.split)
    raw = factors(ratings, split.train, config.factors).item
    vectors = unit(raw)
    waves = field(vectors, split, PUBLISHED.model_copy(update={"num_scales": max(_SCALES)}))
    scores = {
        "random": drawn(split, config.split.seed),
        "popular": popular(split),
        "cosine": cosine(vectors, split),
        **{f"field, S = {s}": waves.total(s) for s in _SCALES},
        **{k: of() for k, of in beside(vectors, split).items() if k != "cosine"},
        "product with the mean": dot(raw, split),
    }
    for seed in range(mlp_seeds):
        of_seed = config.mlp.model_copy(update={"seed": config.mlp.seed + seed})
        scores["mlp" if seed == 0 else f"mlp, seed {seed}"] = mlp(vectors, split, of_seed)
    zero = np.linalg.norm(vectors, axis=1) == 0
    return {
        "viewers": len(split.viewer),
        "ratings_to_learn_from": int(split.train.sum()),
        "zero_vectors": int(zero.sum()),
        "zero_candidates": float(zero[split.candidates].sum(1).mean()),
        "below_zero": float((waves.total(4) < 0).mean()),
        "chance": by_chance(split.candidates.shape[1], config.split.num_held),
        "rankers": {name: summary(measures(of, split)) for name, of in scores.items()},
    }


def _differences(
    rankers: Mapping[str, Any], original: Mapping[str, tuple[float, ...]]
) -> dict[str, dict[str, float]]:
    """Ours minus the original's, per ranker and measure."""
    return {
        name: {
            key: rankers[name][key]["mean"] - value
            for key, value in zip(MEASURES, values, strict=True)
        }
        for name, values in original.items()
    }


def largest(differences: Mapping[str, Mapping[str, float]], *, of_mlp: bool) -> float:
    """The largest absolute difference of the network's rows, or of all others."""
    chosen = [row for name, row in differences.items() if (name == "mlp") == of_mlp]
    return float(np.abs([value for row in chosen for value in row.values()]).max())


def section(part: Mapping[str, Any]) -> Lines:
    """The original's table."""
    lines = [
        "## The original, as published",
        "",
        "Its protocol: the last three films that a viewer liked, among 250 that the viewer never "
        "rated; factors and popularity learned from all other ratings; a field by principal "
        "directions, nothing guarded. Means over viewers ± standard errors. The numbers of single "
        "cases are held by `python -m train.check_fractalx`. The network has its own draws of "
        "negatives and weights, and its numbers differ by seed. Films without a vector stand at "
        "one point; rounding orders them in the original, and a shuffle here: that is what is left "
        "of the differences of the field on ML-100K. "
        "ML-100K's original numbers come from a run of the original code, ML-1M's are published.",
        "",
    ]
    for name, of in part["sets"].items():
        chance = {key: {"mean": value, "error": None} for key, value in of["chance"].items()}
        lines += [f"### {name}", ""]
        lines += measured({"chance, exactly": chance, **of["rankers"]}, f"{of['viewers']} viewers")
        if of["differences"]:
            lines += ["Ours less the original's:", ""]
            lines += table(
                ("", *MEASURES.values()),
                (
                    (ranker, *(f"{row[key]:+.4f}" for key in MEASURES))
                    for ranker, row in of["differences"].items()
                ),
            )
        lines += [
            f"{of['zero_vectors']} films have a zero vector ({of['zero_candidates']:.1f} of a "
            "viewer's candidates): the unguarded field puts them nearest of all. "
            f"{of['below_zero']:.2%} of the candidates have a field (S = 4) below zero, where "
            "suppression could act; its factor is positive, so it never changes an order.",
            "",
        ]
    return lines

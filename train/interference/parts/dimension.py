"""Whether the dimension of a viewer's history is a property of the viewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.interference.ratings import LIKED, Floats, Ids, Ratings
from train.interference.spaces import factors, unit
from train.interference.study import Stability, World
from train.models.fractal.dimension import two_nn
from train.report_tables import Lines, table

ESTIMATES = {
    "slope": "TwoNN",
    "cap": "participation ratio",
    "value": "the smaller, as in the field",
}
NUM_ROUNDS = 2_000
_VIEWERS = 32  # at once
SETTINGS = ("factors", "encode", "stability", "dimension_sets")


def results(world: World) -> dict[str, Any]:
    """Set -> how stable each estimate is, by space of vectors and between spaces."""
    config = world.config
    found: dict[str, Any] = {}
    for name, ratings in world.here(config.dimension_sets).items():
        everything = np.ones(len(ratings.user), bool)
        spaces = {"als": unit(factors(ratings, everything, config.factors).item)}
        if (texts := world.texts(name)) is not None:
            spaces["text"] = texts
        histories = _histories(ratings, config.stability)
        found[name] = _of_set(spaces, histories, config.stability)
    return {
        "sets": found,
        "least_history": config.stability.least_history,
        "most_history": config.stability.most_history,
    }


def _histories(ratings: Ratings, config: Stability) -> list[Ids]:
    """Liked posts of viewers with enough of them, oldest first."""
    rows, start = ratings.rows_of(ratings.value >= LIKED)
    able = np.flatnonzero(np.diff(start) >= config.least_history)
    drawn = np.random.default_rng(0).permutation(able)[: config.num_viewers]
    histories = [ratings.item[rows[start[v] : start[v + 1]]] for v in np.sort(drawn)]
    return [history[-config.most_history :] for history in histories]


def _of_set(
    spaces: Mapping[str, NDArray], histories: list[Ids], config: Stability
) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    mixed = [rng.permutation(history) for history in histories]
    halves = [h[0::2] for h in mixed], [h[1::2] for h in mixed]
    length = np.log([len(h) for h in histories])
    whole = {space: estimates(vectors, histories) for space, vectors in spaces.items()}
    found: dict[str, Any] = {"viewers": len(histories), "spaces": {}}
    for space, vectors in spaces.items():
        one, other = (estimates(vectors, half) for half in halves)
        grown = _by_length(vectors, histories, config)
        found["spaces"][space] = {
            name: {
                "mean": float(whole[space][name].mean()),
                "sd": float(whole[space][name].std(ddof=1)),
                "halves": correlation(one[name], other[name]),
                "log_length": correlation(whole[space][name], length),
                "by_length": {num: of[name] for num, of in grown.items()},
            }
            for name in ESTIMATES
        }
    if "text" in spaces:
        found["between_spaces"] = {
            name: correlation(whole["als"][name], whole["text"][name]) for name in ESTIMATES
        }
    return found


def estimates(vectors: NDArray, histories: list[Ids]) -> dict[str, Floats]:
    """Each of ESTIMATES of each history. [V]."""
    parts = []
    for first in range(0, len(histories), _VIEWERS):
        some = histories[first : first + _VIEWERS]
        lengths = [len(history) for history in some]
        points = np.zeros((len(some), max(lengths), vectors.shape[1]))
        for row, history in enumerate(some):
            points[row, : len(history)] = vectors[history]
        parts.append(two_nn(torch.from_numpy(points), torch.tensor(lengths)))
    return {name: torch.cat([getattr(p, name) for p in parts]).numpy() for name in ESTIMATES}


def correlation(a: Floats, b: Floats) -> dict[str, float]:
    """Pearson's r with its 95 % interval, viewers being drawn anew; nan without any spread."""
    rng = np.random.default_rng(2)
    times = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), NUM_ROUNDS)
    weights = np.concatenate([np.ones((1, len(a))), times]) / len(a)
    a, b = a - a.mean(), b - b.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        ma, mb = weights @ a, weights @ b
        together = weights @ (a * b) - ma * mb
        r = together / np.sqrt((weights @ a**2 - ma**2) * (weights @ b**2 - mb**2))
    low, high = np.nanquantile(r[1:], [0.025, 0.975])
    return {"r": float(r[0]), "low": float(low), "high": float(high)}


def _by_length(
    vectors: NDArray, histories: list[Ids], config: Stability
) -> dict[str, dict[str, float]]:
    """Mean estimates of the newest so many posts, of the viewers that have the most of them."""
    most = max((n for n in config.lengths if sum(len(h) >= n for h in histories) >= 20), default=0)
    long = [history for history in histories if len(history) >= most > 0]
    found = {}
    for num in config.lengths:
        if num <= most:
            of = estimates(vectors, [history[-num:] for history in long])
            found[str(num)] = {name: float(values.mean()) for name, values in of.items()}
    return found


def section(part: Mapping[str, Any]) -> Lines:
    """H1."""
    lines = [
        "## H1: is the dimension stable?",
        "",
        f"Of viewers with {part['least_history']} liked posts or more, the newest "
        f"{part['most_history']} at most. An estimate that is a "
        "property of a viewer's taste agrees between halves of a history drawn at random, and "
        "between spaces of vectors, and does not follow the history's length. Pearson's r over "
        "viewers, 95 % intervals in brackets.",
        "",
    ]
    for name, of in part["sets"].items():
        rows = [
            (
                f"{space}: {words}",
                f"{found[key]['mean']:.2f} ± {found[key]['sd']:.2f}",
                _r(found[key]["halves"]),
                _r(found[key]["log_length"]),
                _r(of["between_spaces"][key]) if "between_spaces" in of else "–",
                ", ".join(f"{n}: {v:.1f}" for n, v in found[key]["by_length"].items()),
            )
            for space, found in of["spaces"].items()
            for key, words in ESTIMATES.items()
        ]
        columns = (
            f"{of['viewers']} viewers",
            "mean ± SD",
            "r of halves",
            "r with log length",
            "r between spaces",
            "mean by newest likes",
        )
        lines += [f"### {name}", "", *table(columns, rows)]
    return lines


def _r(value: Mapping[str, Any]) -> str:
    if value["r"] is None:
        return "–"
    return f"{value['r']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"

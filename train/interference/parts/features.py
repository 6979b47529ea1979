"""The field as features of boosted trees, of viewers with all of their history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.interference.columns import Groups, groups
from train.interference.lift import TESTED, Arms, by_length, rank, told
from train.interference.measures import MEASURES
from train.interference.ratings import Ratings
from train.interference.spaces import Factors, factors, unit
from train.interference.split import Split
from train.interference.study import StudyConfig, World
from train.interference.tables import interval, measured
from train.models.fractal.config import FieldConfig
from train.report_tables import Lines, table

ARMS: Arms = {
    "base": ("base",),
    "local": ("base", "local"),
    "kernel": ("base", "kernel"),
    "field": ("base", "field"),
    "field, principal waves": ("base", "principal"),
    "local, kernel": ("base", "local", "kernel"),
    "local, kernel, field": ("base", "local", "kernel", "field"),
    "kernel alone": ("kernel",),
    "field alone": ("field",),
}
PAIRS = (
    ("local", "base"),
    ("kernel", "base"),
    ("field", "base"),
    ("field, principal waves", "base"),
    ("local, kernel, field", "base"),
    ("field", "local"),
    ("field", "kernel"),
    ("local, kernel, field", "local, kernel"),
)
BY_LENGTH = (("local", "base"), ("field", "base"), ("field", "local"), ("field", "kernel"))
SETTINGS = ("factors", "encode", "lift", "lift_sets", "text_lift_sets")


def results(world: World) -> dict[str, Any]:
    """Set -> space -> arms, differences, and differences by length of history."""
    config = world.config
    found: dict[str, Any] = {}
    for name, ratings in world.here(config.lift_sets).items():
        spaces: dict[str, NDArray | None] = {"als": None}
        if name in config.text_lift_sets and (texts := world.texts(name)) is not None:
            spaces["text"] = texts
        found[name] = {}
        for space, vectors in spaces.items():
            ranked = rank(ratings, config.lift, ARMS, Maker(ratings, config, vectors, cold=False))
            found[name][space] = told(ranked, PAIRS) | {"by_length": by_length(ranked, BY_LENGTH)}
    return {"sets": found, "num_repeats": config.lift.num_repeats}


class Maker:
    """Makes the columns of splits of one set, whose factors are learned once."""

    def __init__(
        self,
        ratings: Ratings,
        config: StudyConfig,
        vectors: NDArray | None,
        *,
        cold: bool,
        fields: Mapping[str, FieldConfig] | None = None,
    ) -> None:
        """Of vectors, None = the factors; fields by group, None = those of ARMS."""
        self._ratings, self._config, self._vectors, self._cold = ratings, config, vectors, cold
        self._fields = fields
        if fields is None:
            self._fields = {
                "field": FieldConfig(num_waves=config.lift.num_waves),
                "principal": FieldConfig(waves="pca"),
            }
        self._known: tuple[bytes, Factors] | None = None

    def learned(self, split: Split) -> Factors:
        """Factors of what may be learned from; all repeats have the same."""
        key = split.train.tobytes()
        if self._known is None or self._known[0] != key:
            self._known = key, factors(self._ratings, split.train, self._config.factors)
        return self._known[1]

    def __call__(self, split: Split) -> Groups:
        """Columns of a split."""
        of = self.learned(split)
        space = unit(of.item) if self._vectors is None else self._vectors
        space = space.astype(np.float32)
        return groups(split, of, space, self._fields or {}, knows_viewer=not self._cold)


def section(part: Mapping[str, Any]) -> Lines:
    """The field as features."""
    lines = [
        "## As features of boosted trees",
        "",
        "The last three liked posts are ranked among 250 others by trees that learned from the "
        "three before; factors and popularity know neither. `base`: popularity, size of the "
        "post's factors, whether they are zero, cosine and product with the mean of the history, "
        "its length, the viewer's own factors' product. `local`: cosine of the nearest and the "
        "five nearest liked posts. `kernel`: four Gaussian kernels of the field's widths, without "
        "waves. `field`: its four scales, total and sign, and the dimension. "
        f"{part['num_repeats']} repeats with fresh negatives; differences are paired over "
        "viewers, with 95 % intervals; **bold** is clear of zero after Holm's correction for all "
        "rows of the column.",
        "",
    ]
    return lines + arms_section(part["sets"])


def arms_section(sets: Mapping[str, Any], knows_vectors: bool = False) -> Lines:
    """Arms and differences of each set and space; whether `base` reads the space's vectors."""
    lines: Lines = []
    for name, spaces in sets.items():
        for space, of in spaces.items():
            lines += [f"### {name}, {space}", ""]
            middle = of["history"]
            head = f"{of['viewers']} viewers, median history {middle['median']:.0f}"
            lines += measured(of["arms"], head)
            if space == "text" and not knows_vectors:
                lines += [
                    "`base` knows no texts: what is gained over it is what texts tell. `local` and "
                    "`kernel` read the same vectors as the field.",
                    "",
                ]
            rows = [
                (
                    pair,
                    *(interval(of["differences"][key][pair]) for key in TESTED),
                    *(interval(of["long_tail"][depth][pair]) for depth in of["long_tail"]),
                )
                for pair in of["differences"][TESTED[0]]
            ]
            columns = ("", *(MEASURES[key] for key in TESTED))
            depths = (f"LT recall at the other's precision@{k}" for k in of["long_tail"])
            lines += table((*columns, *depths), rows)
            if "by_length" in of:
                lines += _length_table(of["by_length"])
    return lines


def _length_table(of: Mapping[str, Any]) -> Lines:
    """Differences by length of history."""
    rows = [
        (pair, of["viewers"][pair.split(":")[0]], *(interval(of[key][pair]) for key in TESTED))
        for pair in of[TESTED[0]]
    ]
    return table(("history", "viewers", *(MEASURES[key] for key in TESTED)), rows)

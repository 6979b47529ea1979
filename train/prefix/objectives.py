"""What a prefix head is taught, as named conditions: each is one set of settings.

    v5_legacy   V5 as its tables were made: prefixes cut at the batch's commonest length
    v5          V5 as meant: prefixes of each text's own length learn coarse labels, the whole fine
    mrl         Matryoshka: fine labels at every length (Kusupati et al. 2022)
    inverted    the whole learns coarse labels, prefixes fine ones
    no_prefix   the whole learns fine labels, and prefixes nothing
    uhmt        whole and prefixes learn all levels alike
    own         a part of the vector per level, supervised contrastive on each and on the whole

With three levels and more, the first six are as in V5's three-level script: cross-entropy alone,
a cosine schedule, and a prefix's labels grow finer with its length.

Axes: B texts, L levels (coarse to fine), J blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from configs import Config, check, near_miss

Lengths = Literal["each", "mode", "all", "none"]
Mixes = tuple[tuple[NonNegativeFloat, ...], ...]
BLOCKS = (64, 64, 64, 64)


class SharedObjective(Config):
    """V5's family: a loss of whole vectors and one of prefixes.

    A level's loss is contrastive · InfoNCE + margin · margin loss + classes · cross-entropy.
    """

    kind: Literal["shared"] = "shared"
    whole: tuple[NonNegativeFloat, ...]  # weight of each level in the loss of whole vectors
    prefix: Mixes = ()  # for prefixes of 1..J blocks: weight of each level
    lengths: Lengths  # each text's own, cut at the batch's mode, all of them, or no prefix loss
    levels: tuple[NonNegativeInt, ...]  # of each classifier; prefixes take the first that fits
    length_weights: tuple[PositiveFloat, ...]  # share of each length, drawn or summed
    keep: tuple[float, ...]  # probability that block dropout keeps a block of a whole vector
    prefix_weight: NonNegativeFloat = 0.6
    contrastive: NonNegativeFloat = 1.0
    margin: NonNegativeFloat = 0.5
    classes: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 0.07
    least_gap: PositiveFloat = 0.2  # between similarities, in the margin loss


class OwnObjective(Config):
    """Our own: supervised contrastive loss of each part on its level, and of the whole."""

    kind: Literal["own"] = "own"
    parts: NonNegativeFloat = 1.0  # weight of the loss of each part
    whole: NonNegativeFloat = 1.0  # weight of that of whole vectors, on the finest labels
    classes: NonNegativeFloat = 0.5  # weight of cross-entropy against class centres, each part
    distil: NonNegativeFloat = 1.0  # weight of the encoder's own neighbours in the finest part
    temperature: PositiveFloat = 0.1
    distil_temperature: PositiveFloat = 0.1
    per_class: PositiveInt = 4  # texts of a class that stand together in a batch
    # Weight of a part in the cosine of whole vectors, over that of the coarser part before it: so
    # that the whole tells fine classes apart, and only its first part draws a subject together.
    finer: PositiveFloat = 19.0


class FitConfig(Config):
    """How a head is trained."""

    condition: str
    objective: SharedObjective | OwnObjective = Field(discriminator="kind")
    block_sizes: tuple[PositiveInt, ...] = Field(default=BLOCKS, min_length=1)
    batch_size: PositiveInt = 16
    num_epochs: PositiveInt = 5
    lr: PositiveFloat = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: NonNegativeFloat = 0.01
    grad_clip: PositiveFloat = 1.0  # largest global norm of a step's gradient
    validation_share: float = Field(default=0.15, gt=0, lt=1)  # of each finest class
    split_seed: int | None = None  # of validation rows; None = the run's own
    # Which epoch is kept: nearest neighbours as in V5, or R-precision of both ends.
    select: Literal["knn", "r_precision"] = "knn"
    device: str = "cpu"

    @model_validator(mode="after")
    def _fits(self) -> FitConfig:
        objective, num = self.objective, len(self.block_sizes)
        if isinstance(objective, SharedObjective):
            sizes = {name: len(getattr(objective, name)) for name in ("length_weights", "keep")}
            if objective.lengths != "none":
                sizes["prefix"] = len(objective.prefix)
            for name, size in sizes.items():
                if size != num:
                    raise ValueError(f"objective.{name}: {size} values for {num} block_sizes")
        return self


def condition(name: str, num_levels: int = 2, block_sizes: tuple[int, ...] = BLOCKS) -> FitConfig:
    """The settings of a named condition.

    Args:
        name: see the module.
        num_levels: L. With one level there is `own` alone.
        block_sizes: of the vector, any number and widths.

    Raises:
        ValueError: no such condition, or none for a single level.
    """
    if name == "own":
        return FitConfig(
            condition=name,
            objective=OwnObjective(),
            block_sizes=block_sizes,
            batch_size=128,
            num_epochs=20,
            lr=5e-4,
            schedule="cosine",
            select="r_precision",
        )
    if name not in CONDITIONS:
        raise ValueError(f"condition: {name!r}{near_miss(name, CONDITIONS)}")
    if num_levels < 2:
        raise ValueError(f"condition: {name} needs two levels of labels, there is {num_levels}")
    return FitConfig(
        condition=name,
        objective=_shared(name, num_levels, len(block_sizes)),
        block_sizes=block_sizes,
        schedule="constant" if num_levels == 2 else "cosine",
    )


def changed(
    name: str,
    num_levels: int,
    changes: Mapping[str, Any],
    place: str,
    block_sizes: tuple[int, ...] = BLOCKS,
) -> FitConfig:
    """The settings of a named condition with `changes`, groups within groups.

    Args:
        name: as for `condition`.
        num_levels: as for `condition`.
        changes: what differs; with `block_sizes` among them, the objective is made for as many.
        place: of the changes, for errors.
        block_sizes: unless `changes` has others.

    Raises:
        ValueError: as for `condition`.
        ConfigError: a setting that there is not, or a value that does not fit.
    """
    wanted = changes.get("block_sizes")
    if isinstance(wanted, list | tuple) and wanted:
        block_sizes = (1,) * len(wanted)  # the changes say how wide
    values = condition(name, num_levels, block_sizes).model_dump(mode="json")
    return check(merged(values, changes), FitConfig, place)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with the `changes`, groups within groups."""
    inner = {
        key: merged(values[key], change)
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping)
        else change
        for key, change in changes.items()
    }
    return {**values, **inner}


def _shared(name: str, num_levels: int, num_blocks: int) -> SharedObjective:
    coarse, fine = _only(0, num_levels), _only(num_levels - 1, num_levels)
    growing = _growing(num_levels, num_blocks)
    even = (1 / num_levels,) * num_levels
    whole, prefix = {
        "mrl": (fine, (fine,) * num_blocks),
        "inverted": (coarse, tuple(mix[::-1] for mix in growing)),
        "no_prefix": (fine, ()),
        "uhmt": (even, (even,) * num_blocks),
    }.get(name, (fine, growing))
    lengths: dict[str, Lengths] = {"v5": "each", "mrl": "all", "no_prefix": "none"}
    falling = range(num_blocks, 0, -1)
    at = np.linspace(0, 3, num_blocks)
    return SharedObjective(
        whole=whole,
        prefix=prefix,
        lengths=lengths.get(name, "mode"),
        levels=(num_levels - 1,) * 2 if name == "mrl" else tuple(range(num_levels)),
        length_weights=tuple(weight / sum(falling) for weight in falling),
        keep=tuple(np.interp(at, range(4), (0.95, 0.9, 0.8, 0.7)).tolist()),
        contrastive=1.0 if num_levels == 2 else 0.0,
        margin=0.5 if num_levels == 2 else 0.0,
    )


def _only(level: int, num_levels: int) -> tuple[float, ...]:
    return tuple(float(level == at) for at in range(num_levels))


def _growing(num_levels: int, num_blocks: int) -> Mixes:
    """Labels of prefixes 1..J: coarse alone with two levels, else finer with the length."""
    if num_levels == 2:
        return (_only(0, 2),) * num_blocks
    if (num_levels, num_blocks) == (3, 4):
        return ((1, 0, 0), (0.6, 0.4, 0), (0, 0.3, 0.7), (0, 0, 1))
    mixes = []
    for place in np.linspace(0, num_levels - 1, num_blocks):  # between two neighbouring levels
        mix = np.maximum(0, 1 - np.abs(np.arange(num_levels) - place))
        mixes.append(tuple(mix.tolist()))
    return tuple(mixes)


CONDITIONS = ("v5_legacy", "v5", "mrl", "inverted", "no_prefix", "uhmt", "own")

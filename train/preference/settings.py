"""Settings of the study of preferences, and the parts of its report."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from configs import Config, near_miss
from train.preference.goodhart import SEEDS
from train.preference.training import FitConfig
from train.preference.world import WorldRun
from train.report import REPORTS

OF_ACTIONS = "synthetic"  # the one set whose features are actions
SETS = (OF_ACTIONS, "ml_100k", "ml_1m", "mind", "kindle")
REAL = ("kuairand", "movielens")
PARTS = (*SETS, "random_split", "protocol", *REAL, "world")
_LEARN = ("seeds", "fit")
_OF_SET = (
    *_LEARN,
    *("budgets", "num_budget_seeds", "num_random_pairs", "seed", "steps", "num_curve_seeds"),
)
# What each part reads of the settings, so that it stays true while these stay the same.
READS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SETS, _OF_SET),
    "random_split": _LEARN,
    "protocol": ("num_curve_seeds",),
    "kuairand": ("bundle",),
    "movielens": (),
    "world": ("world",),
}


class StudyConfig(Config):
    """What is studied, and from where."""

    data: str = "artifacts/downloads"  # folder of the public sets' archives
    kuairand: str = "artifacts/data/kuairand"  # prepared, as the bundle was trained on
    bundle: str | None = None  # whose ranker real preferences are held against
    reports: str = str(REPORTS)
    parts: tuple[str, ...] = ()  # () = all
    seeds: tuple[NonNegativeInt, ...] = Field(default=SEEDS, min_length=1)
    budgets: tuple[PositiveInt, ...] = Field(default=(25, 50, 100, 200, 500), min_length=1)
    num_budget_seeds: PositiveInt = 20  # 42, 142, ...
    num_random_pairs: PositiveInt = Field(default=200, ge=2)  # each in both directions
    seed: NonNegativeInt = 0  # of the random pairs
    fit: FitConfig = FitConfig()
    # Of decoupling, with the published ends.
    steps: tuple[PositiveInt, ...] = Field(default=(50, 250, 1_250), min_length=2)
    num_curve_seeds: PositiveInt = 25  # of curves by pairs, at most
    world: WorldRun = WorldRun()
    num_workers: PositiveInt = 2  # processes, each of one thread and busy with one part at a time

    @field_validator("parts")
    @classmethod
    def _known(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        for part in parts:
            if part not in PARTS:
                raise ValueError(f"{part!r}: no such part{near_miss(part, PARTS)}")
        return parts

    @field_validator("budgets", "steps")
    @classmethod
    def _ascending(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if any(low >= high for low, high in pairwise(numbers)):
            raise ValueError("must grow: prices lie between neighbours, changes between the ends")
        return numbers

    @model_validator(mode="after")
    def _rules_need_actions(self) -> StudyConfig:
        learned = [part for part in self.wanted if "fit" in READS[part] and part != OF_ACTIONS]
        if self.fit.loss == "constrained" and learned:
            raise ValueError(
                f"fit.loss: 'constrained' has rules for actions, and features of "
                f"{', '.join(learned)} are none (allowed: with --parts {OF_ACTIONS})"
            )
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """The parts that `parts` says, in the order of the report."""
        return tuple(part for part in PARTS if part in (self.parts or PARTS))

    @property
    def budget_seeds(self) -> list[int]:
        """One a draw of pairs."""
        return [42 + 100 * at for at in range(self.num_budget_seeds)]

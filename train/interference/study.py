"""Settings of the study of the interference field, and the sets that its parts share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, field_validator, model_validator

from configs import Config, near_miss
from pipelines.data.encode import EncodeConfig
from pipelines.data.reader import InputError
from train.interference.mlp import MlpConfig
from train.interference.ratings import SETS, Ratings, read
from train.interference.spaces import FactorConfig, of_texts
from train.interference.split import SplitConfig
from train.report import REPORTS
from train.trees import TreeSettings

PARTS = (
    "published",
    "rankers",
    "features",
    "cold_start",
    "dimension",
    "feedback",
    "ablations",
)
SPACES = ("als", "text")


class Lift(Config):
    """The field as features of boosted trees."""

    split: SplitConfig = SplitConfig(num_viewers=600, least_history=1)
    num_learn: PositiveInt = 50  # negatives of each viewer that trees learn from
    num_repeats: PositiveInt = 3  # draws of negatives
    num_waves: PositiveInt = 16
    cold_history: PositiveInt = 8  # newest likes that are known of a cold viewer
    trees: TreeSettings = TreeSettings(learning_rate=0.1, num_rounds=300, patience=30)


class Feedback(Config):
    """Later likes against later dislikes."""

    share: float = 0.2  # of each viewer's ratings, the newest, to be told apart
    num_viewers: PositiveInt = 1000  # at most
    least_history: PositiveInt = 5  # liked posts before


class Stability(Config):
    """The dimension of histories."""

    least_history: PositiveInt = 40  # liked posts of a viewer whose halves are compared
    most_history: PositiveInt = 200  # the newest, that are looked at
    num_viewers: PositiveInt = 500  # at most
    lengths: tuple[PositiveInt, ...] = (10, 20, 40, 80, 160)


class StudyConfig(Config):
    """What is studied, and where the report goes."""

    data: str = "artifacts/downloads/fractalx"  # folder of the sets that do not come along
    encode: EncodeConfig = EncodeConfig()
    texts: bool = True  # whether vectors of texts are tried, too
    reports: str = str(REPORTS)
    parts: tuple[str, ...] = ()  # () = all
    split: SplitConfig = SplitConfig()  # the published protocol
    factors: FactorConfig = FactorConfig()
    mlp: MlpConfig = MlpConfig()
    num_seeds: PositiveInt = 5  # of directions at random
    published_sets: tuple[str, ...] = ("ml-100k", "ml-1m")
    ranker_sets: tuple[str, ...] = ("ml-100k", "ml-1m", "kuairand")
    lift_sets: tuple[str, ...] = ("ml-100k", "ml-latest-small", "ml-1m", "kuairand")
    feedback_sets: tuple[str, ...] = ("kuairand-27k", "kuairand", "ml-100k", "ml-1m")
    dimension_sets: tuple[str, ...] = ("ml-100k", "ml-1m", "kuairand")
    ablation_set: str = "ml-100k"
    ablation_seeds: PositiveInt = 3
    text_lift_sets: tuple[str, ...] = ("ml-100k", "ml-latest-small")
    lift: Lift = Lift()
    feedback: Feedback = Feedback()
    stability: Stability = Stability()

    @field_validator("parts")
    @classmethod
    def _known_parts(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        for part in parts:
            if part not in PARTS:
                raise ValueError(f"{part!r}{near_miss(part, PARTS)}")
        return parts

    @model_validator(mode="after")
    def _known_sets(self) -> StudyConfig:
        lists = ("published_sets", "ranker_sets", "lift_sets", "feedback_sets")
        for of in (*lists, "dimension_sets", "text_lift_sets"):
            for name in getattr(self, of):
                if name not in SETS:
                    raise ValueError(f"{of}: {name!r}{near_miss(name, SETS)}")
        if self.ablation_set not in SETS:
            raise ValueError(
                f"ablation_set: {self.ablation_set!r}{near_miss(self.ablation_set, SETS)}"
            )
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """The parts that `parts` says, in the order of the report."""
        return tuple(part for part in PARTS if part in (self.parts or PARTS))


class World:
    """The sets, each read once, and what is missing."""

    def __init__(self, config: StudyConfig) -> None:
        """Read from the settings' folder when asked."""
        self.config = config
        self.left_out: dict[str, str] = {}
        self.stories: dict[str, dict[str, Any]] = {}
        self._read = cache(self._find)
        self._texts = cache(self._encode)

    def ratings(self, name: str) -> Ratings | None:
        """A set, None where its file is not there."""
        return self._read(name)

    def here(self, names: tuple[str, ...]) -> dict[str, Ratings]:
        """Those of the sets that are there."""
        found = {name: self.ratings(name) for name in names}
        return {name: ratings for name, ratings in found.items() if ratings is not None}

    def texts(self, name: str) -> NDArray[np.float32] | None:
        """Unit vectors of a set's texts, None where it has none or the encoder is missing."""
        return self._texts(name)

    def _find(self, name: str) -> Ratings | None:
        try:
            ratings = read(name, Path(self.config.data))
        except InputError as error:
            self.left_out[name] = str(error)
            return None
        self.stories[name] = {
            "ratings": len(ratings.user),
            "viewers": ratings.num_users,
            "posts": ratings.num_items,
            "liked": int((ratings.value >= 4).sum()),
            "disliked": int((ratings.value <= 2).sum()),
            "fingerprint": ratings.fingerprint,
        }
        return ratings

    def _encode(self, name: str) -> NDArray[np.float32] | None:
        ratings = self.ratings(name)
        try:
            return (
                None
                if ratings is None or not self.config.texts
                else of_texts(ratings, self.config.encode)
            )
        except InputError as error:
            self.left_out[f"texts of {name}"] = str(error)
            return None

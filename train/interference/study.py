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
from train.interference.learned import PhoenixRun, TowersRun, towers
from train.interference.mlp import MlpConfig
from train.interference.ratings import SETS, Ratings, read
from train.interference.spaces import FactorConfig, of_prefixes, of_texts
from train.interference.split import SplitConfig, for_ranker
from train.prefix.objectives import FitConfig, condition
from train.report import REPORTS
from train.trees import TreeSettings

PARTS = (
    "published",
    "rankers",
    "features",
    "cold_start",
    "spaces",
    "phoenix",
    "dimension",
    "feedback",
    "ablations",
)


class Lift(Config):
    """The field as features of boosted trees."""

    split: SplitConfig = SplitConfig(num_viewers=600, least_history=1)
    num_learn: PositiveInt = 50  # negatives of each viewer that trees learn from
    num_repeats: PositiveInt = 3  # draws of negatives
    num_waves: PositiveInt = 16
    cold_history: PositiveInt = 8  # newest likes that are known of a cold viewer
    trees: TreeSettings = TreeSettings(learning_rate=0.1, num_rounds=300, patience=30)


class Spaces(Config):
    """Further vectors of posts, learned by the product's own models."""

    sets: tuple[str, ...] = ("ml-100k", "ml-latest-small", "ml-1m", "kuairand")
    num_repeats: PositiveInt = 3  # draws of negatives
    towers: TowersRun = TowersRun()
    prefix: FitConfig = condition("own", num_levels=1)  # a part for genres, one for what is said
    num_waves: PositiveInt = 64  # of the field alone


class Phoenix(Config):
    """The field as an input of the ranker."""

    sets: tuple[str, ...] = ("ml-100k", "ml-latest-small", "ml-1m", "kuairand")
    num_repeats: PositiveInt = 2  # draws of negatives, and of weights
    run: PhoenixRun = PhoenixRun()


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
    text_lift_sets: tuple[str, ...] = ("ml-100k", "ml-latest-small", "ml-1m")
    lift: Lift = Lift()
    spaces: Spaces = Spaces()
    phoenix: Phoenix = Phoenix()
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
            _known(of, getattr(self, of))
        for of, sets in (("spaces.sets", self.spaces.sets), ("phoenix.sets", self.phoenix.sets)):
            _known(of, sets)
        _known("ablation_set", (self.ablation_set,))
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """The parts that `parts` says, in the order of the report."""
        return tuple(part for part in PARTS if part in (self.parts or PARTS))


def _known(setting: str, sets: tuple[str, ...]) -> None:
    for name in sets:
        if name not in SETS:
            raise ValueError(f"{setting}: {name!r}{near_miss(name, SETS)}")


class World:
    """The sets, each read once, and what is missing."""

    def __init__(self, config: StudyConfig) -> None:
        """Read from the settings' folder when asked."""
        self.config = config
        self.left_out: dict[str, str] = {}
        self.stories: dict[str, dict[str, Any]] = {}
        self._read = cache(self._find)
        self._texts = cache(self._encode)
        self._towers = cache(self._learn)
        self._prefixes = cache(self._fit)

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

    def towers(self, name: str) -> NDArray[np.float32] | None:
        """Vectors of two towers that learned what the rankers of the lift may learn from."""
        return self._towers(name)

    def prefixes(self, name: str) -> NDArray[np.float32] | None:
        """Vectors of a set's texts through a prefix head, None where it has none."""
        return self._prefixes(name)

    def _learn(self, name: str) -> NDArray[np.float32] | None:
        ratings = self.ratings(name)
        if ratings is None:
            return None
        lift = self.config.lift
        learn, _ = for_ranker(ratings, lift.split, 0, lift.num_learn)
        return towers(ratings, learn.train, self.config.spaces.towers)

    def _fit(self, name: str) -> NDArray[np.float32] | None:
        ratings, content = self.ratings(name), self.texts(name)
        if ratings is None or content is None or ratings.topic is None:
            return None
        return of_prefixes(content, ratings.topic, self.config.spaces.prefix, seed=0)

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

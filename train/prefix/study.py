"""Settings of the study of prefix heads, and the heads that its parts ask for.

An arm is one condition under one change of the data: a list of jobs, one a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PositiveInt, field_validator, model_validator

from configs import Config, near_miss
from train.prefix.features import PooledConfig, features, fingerprint
from train.prefix.jobs import RAW, Items, Job, Record, SetData
from train.prefix.labelled import Sizes, conditional_entropy, entropy, grouped, shortened
from train.prefix.objectives import BLOCKS, CONDITIONS, FitConfig, changed, merged
from train.prefix.readers import read
from train.prefix.readers.clinc import SUPER_DOMAINS
from train.report import REPORTS


def _known(name: str) -> str:
    if name not in CONDITIONS:
        raise ValueError(f"{name!r}: no such condition{near_miss(name, CONDITIONS)}")
    return name


Name = Annotated[str, AfterValidator(_known)]  # of a condition
Arm = tuple[str, ...]
Arms = dict[Arm, list[Job]]
Runs = dict[Arm, list[tuple[Record, Items]]]  # what became of them
# Parts on CLINC-150; each other set of texts is a part by its name.
ON_CLINC = ("clinc", "unseen", "three_level", "goldilocks", "noise", "retrieval", "routing")
SETS = "sets"  # all other sets, where parts are named

CLINC = "clinc"
_FEWER = 4_000  # texts to learn from, of which V5's heads take two minutes instead of five


class ThreeLevel(Config):
    """Five groups of domains → domain → intent, on CLINC-150."""

    conditions: tuple[Name, ...] = ("own", "v5", "mrl")
    num_seeds: PositiveInt = 3  # the first of the study's


class Noise(Config):
    """A share of the coarse training labels of CLINC-150 is wrong."""

    conditions: tuple[Name, ...] = ("own", "v5")
    shares: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.0, 0.1, 0.2, 0.3, 0.5)
    num_seeds: PositiveInt = 3


class Goldilocks(Config):
    """Random balanced groups of CLINC-150's intents take the place of its domains."""

    # Widths of the first block, of each condition; V5's heads take five times as long.
    first_blocks: dict[Name, tuple[PositiveInt, ...]] = Field(
        default={"own": (64, 128)}, min_length=1
    )
    groups: tuple[PositiveInt, ...] = (2, 3, 5, 10, 15, 25, 50, 75)
    num_seeds: PositiveInt = 3


class Unseen(Config):
    """Some intents of each domain of CLINC-150 are left out of training."""

    conditions: tuple[Name, ...] = ("own", "v5", "mrl")
    share: float = Field(default=0.3, gt=0, lt=1)
    num_seeds: PositiveInt = 5


class StudyConfig(Config):
    """What is studied, and where it is kept."""

    data: str = "artifacts/downloads/v5"  # folder of the public sets
    encode: PooledConfig = PooledConfig()
    out: str = "artifacts/prefix"  # results, a file a head
    reports: str = str(REPORTS)
    parts: tuple[str, ...] = ()  # () = all; see `all_parts`, and `sets` stands for all other sets
    seeds: tuple[int, ...] = (42, 123, 456, 789, 1024)  # of splits and weights
    conditions: tuple[Name, ...] = CONDITIONS  # of the CLINC part
    sets: dict[str, Sizes] = Field(
        default={
            "clinc": Sizes(),
            "trec": Sizes(num_train=_FEWER),
            "hwu64": Sizes(num_train=_FEWER, num_test=2_000),
            "arxiv": Sizes(num_train=_FEWER, num_test=2_000, most_train=7_000),
            "newsgroups": Sizes(num_train=_FEWER, num_test=3_000),
            "goemotions": Sizes(num_train=_FEWER, num_test=3_000, most_train=12_500),
        }
    )
    set_conditions: tuple[Name, ...] = ("own", "v5", "mrl")  # on all sets
    side_num_train: PositiveInt = _FEWER  # of CLINC-150 in three_level, noise and goldilocks
    fit: dict[str, dict[str, Any]] = Field(default={})  # condition -> changes of its settings
    three_level: ThreeLevel = ThreeLevel()
    noise: Noise = Noise()
    goldilocks: Goldilocks = Goldilocks()
    unseen: Unseen = Unseen()

    @field_validator("seeds")
    @classmethod
    def _several(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < 2:
            raise ValueError(f"{list(seeds)}: two different seeds or more, else nothing has spread")
        return seeds

    @field_validator("sets")
    @classmethod
    def _with_clinc(cls, sets: dict[str, Sizes]) -> dict[str, Sizes]:
        if CLINC not in sets:
            raise ValueError(f"{sorted(sets)}: without {CLINC}, which most parts are about")
        return sets

    @field_validator("fit")
    @classmethod
    def _of_conditions(cls, fit: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in fit.keys() - {"all"}:
            _known(name)
        return fit

    @model_validator(mode="after")
    def _known_parts(self) -> StudyConfig:
        allowed = (*self.all_parts, SETS)
        for part in self.parts:
            if part not in allowed:
                raise ValueError(f"parts: {part!r}{near_miss(part, allowed)}")
        return self

    @property
    def other_sets(self) -> tuple[str, ...]:
        """All but CLINC-150."""
        return tuple(name for name in self.sets if name != CLINC)

    @property
    def all_parts(self) -> tuple[str, ...]:
        """In the order of the report."""
        return (*ON_CLINC[:1], *self.other_sets, *ON_CLINC[1:])

    @property
    def wanted(self) -> tuple[str, ...]:
        """The parts that `parts` says, each once."""
        said = set(self.parts or self.all_parts)
        said |= set(self.other_sets) if SETS in said else set()
        return tuple(part for part in self.all_parts if part in said)

    def taught(
        self, name: str, num_levels: int = 2, block_sizes: tuple[int, ...] = BLOCKS
    ) -> FitConfig | None:
        """Settings of a condition as this study changes them; None = the encoder itself."""
        if name == RAW:
            return None
        changes = merged(self.fit.get("all", {}), self.fit.get(name, {}))
        return changed(name, num_levels, changes, f"fit.{name}", block_sizes)

    def jobs(
        self, texts: str, fit: FitConfig | None, num: int | None = None, **of: Any
    ) -> list[Job]:
        """One job a seed, of the first `num` seeds."""
        of = {"sizes": self.sets[texts]} | of
        return [Job(set=texts, seed=seed, fit=fit, **of) for seed in self.seeds[:num]]

    def side_jobs(self, fit: FitConfig | None, num: int, **of: Any) -> list[Job]:
        """As `jobs` for CLINC-150, of fewer texts."""
        sizes = self.sets[CLINC]
        fewer = min(sizes.num_train, self.side_num_train)
        sizes = sizes.model_copy(update={"num_train": fewer})
        return self.jobs(CLINC, fit, num, sizes=sizes, **of)

    def clinc_arms(self) -> Arms:
        """All conditions on CLINC-150, and the encoder itself."""
        names = (*self.conditions, RAW)
        return {(name,): self.jobs(CLINC, self.taught(name)) for name in names}

    def set_arms(self, texts: str) -> Arms:
        """The conditions that all sets have, on one of them."""
        names = (*self.set_conditions, RAW)
        return {(name,): self.jobs(texts, self.taught(name)) for name in names}


def set_data(name: str, config: StudyConfig, pool: Any) -> tuple[SetData, dict[str, Any]]:
    """What heads of a set are made from, and what the report says of it.

    Raises:
        InputError: its file or the encoder is missing.
    """
    texts = shortened(read(name, Path(config.data)), config.sets[name])
    vectors = features(texts, config.encode, pool)
    super_domain = grouped(texts.names[0], SUPER_DOMAINS) if name == CLINC else None
    data = SetData(vectors, texts.labels, texts.test, fingerprint(texts, vectors), super_domain)
    train = texts.labels if texts.test is None else texts.labels[~texts.test]
    coarse, fine = train[:, 0], train[:, -1]
    story = {
        "texts": len(texts.text),
        "public_test": None if texts.test is None else int(texts.test.sum()),
        "coarse": len(texts.names[0]),
        "fine": len(texts.names[-1]),
        "h_coarse_bits": entropy(coarse),
        "h_fine_given_coarse_bits": conditional_entropy(coarse, fine),
        "fingerprint": data.fingerprint,
    }
    return data, story


def by_seed(runs: Sequence[tuple[Record, Items]], *path: str | int) -> list[float]:
    """One number of each run, by the keys that lead to it."""
    found = []
    for record, _ in runs:
        value: Any = record
        for key in path:
            value = value[key]
        found.append(float(value))
    return found

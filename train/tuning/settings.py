"""Settings of a search: of a model's training run, or of the blend that orders a feed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from configs import Config, ConfigError, load, near_miss
from pipelines.feed.replay import SERVICES
from pipelines.schema import ACTION_NAMES
from train.preference.stakeholders.synthetic import ALPHA
from train.tuning.space import Choice, Range

Direction = Literal["maximize", "minimize"]

# What the pages of a blend are measured by; see `train.tuning.measures`.
BLEND_MEASURES = (
    *("ndcg_10", "value_10", "authors_10", "topics_10", "negative_10"),
    *(f"{name}_10" for name in ALPHA),  # what a stakeholder of train.preference wants of a page
)


class Bound(Config):
    """What a measure must stay within; a trial outside is kept, but never the best."""

    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None
    of_default: bool = False  # both count in multiples of what the settings give untuned

    @model_validator(mode="after")
    def _bounds(self) -> Bound:
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs at_least or at_most")
        low, high = self.at_least, self.at_most
        if low is not None and high is not None and low > high:
            raise ValueError(f"nothing is at_least {low:g} and at_most {high:g}")
        return self

    def excess(self, value: float, default: float = float("nan")) -> float:
        """How far a value is outside: above 0 = outside, as Optuna counts it."""
        unit = default if self.of_default else 1.0
        over = [] if self.at_most is None else [value - self.at_most * unit]
        under = [] if self.at_least is None else [self.at_least * unit - value]
        return max(over + under)


class Sampler(Config):
    """What proposes the next trial."""

    kind: Literal["tpe", "cmaes", "nsga2", "random"] = "tpe"
    num_startup: PositiveInt = 10  # trials drawn at random before tpe or cmaes begins
    population: PositiveInt = Field(default=24, ge=2)  # of nsga2, of one generation


class Search(Config):
    """What all searches have in common; one YAML file in configs/tune/."""

    # Of the study; results go to <out>/<name>.
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    out: str = "artifacts/tune"
    # Where trials are kept: an RDB URL such as postgresql://…; null = a journal file in
    # <out>/<name>. A search that was stopped goes on from there.
    storage: str | None = None
    space: dict[str, Range | Choice] = Field(min_length=1)  # settings to search, as a.b
    objectives: dict[str, Direction] = Field(min_length=1)  # measure -> which way is better
    constraints: dict[str, Bound] = Field(default={})  # measure -> what it must stay within
    sampler: Sampler = Sampler()
    num_trials: PositiveInt = 10  # in all, those before a restart among them
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return Path(self.out) / self.name

    @model_validator(mode="after")
    def _sampled(self) -> Search:
        """Refuse what a sampler cannot do.

        Raises:
            ValueError: CMA-ES with several objectives, with bounds, or with choices alone.
        """
        if self.sampler.kind == "cmaes":
            if len(self.objectives) > 1 or self.constraints:
                raise ValueError(
                    "sampler.kind cmaes: knows one objective and no constraints; take tpe or nsga2"
                )
            if not any(where.numeric for where in self.space.values()):
                raise ValueError("sampler.kind cmaes: moves numbers, and the space has none")
        return self


class RunSearch(Search):
    """A search over the settings of one training run."""

    kind: Literal["run"] = "run"
    run: str  # the run to tune: a file of configs/ranker/, configs/retrieval/ or configs/prefix/
    # Settings of the run that every trial shares, as a.b: value.
    fixed: dict[str, Any] = Field(default={})
    # val_loss, or any number that result.json says of a validation; of a prefix head, any that it
    # says of held-out posts.
    objectives: dict[str, Direction] = Field(default={"val_loss": "minimize"}, min_length=1)
    pruner: Literal["asha", "none"] = "asha"  # stops trials that fall behind at a validation
    # A trial needs its workers' CPUs and one more to read data; more trials than that fits
    # would wait for each other for ever.
    max_concurrent: PositiveInt = 1

    @model_validator(mode="after")
    def _supported(self) -> RunSearch:
        if self.pruner == "asha" and len(self.objectives) > 1:
            raise ValueError("pruner asha: knows one objective; set pruner: none")
        relative = [name for name, bound in self.constraints.items() if bound.of_default]
        if relative:
            raise ValueError(f"constraints.{relative[0]}.of_default: no run is made untuned")
        return self


class BlendSearch(Search):
    """A search over what orders a feed, on logged visits that are answered again offline."""

    kind: Literal["blend"] = "blend"
    bundle: str = "artifacts/bundle"
    data: str = "artifacts/data/kuairand"  # that the bundle was trained on
    feed: str = "configs/feed.yaml"
    write: str | None = "artifacts/bundle-tuned"  # a new bundle with the best; null = none
    objectives: dict[str, Direction] = Field(default={"ndcg_10": "maximize"}, min_length=1)
    pruner: Literal["median", "none"] = "median"  # of several objectives none is pruned
    relevant: str = "click"  # the action that makes a post right
    num_requests: PositiveInt = 500  # visits of the validation days, spread evenly over them
    num_test_requests: PositiveInt = 500  # the same of the test days; looked at once, at the end
    num_candidates: PositiveInt = 300  # posts scored for each, those that the log shows first
    page: PositiveInt = Field(default=20, ge=10)  # posts of a page
    num_chunks: PositiveInt = 5  # of a trial's requests, after each of which it may be pruned
    # Settings of the field whose values are kept in memory: 5 MB each for 500 x 300 posts.
    num_fields: PositiveInt = 32
    # Trials at once, each in a Ray actor; null = one a CPU of the cluster that RAY_ADDRESS names,
    # and without one this process alone, without Ray.
    num_workers: PositiveInt | None = None
    services: str = SERVICES  # what answers the feed beside the models, as module:function

    @model_validator(mode="after")
    def _stays(self) -> BlendSearch:
        if self.write is not None and Path(self.write).resolve() == Path(self.bundle).resolve():
            raise ValueError(f"write: {self.write} is the bundle that is tuned; it stays as it is")
        return self

    @field_validator("relevant")
    @classmethod
    def _action(cls, name: str) -> str:
        if name not in ACTION_NAMES:
            raise ValueError(f"no such action{near_miss(name, ACTION_NAMES)}")
        return name

    @field_validator("objectives", "constraints")
    @classmethod
    def _measured(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if name not in BLEND_MEASURES:
                raise ValueError(f"{name}: no such measure{near_miss(name, BLEND_MEASURES)}")
        return named


KINDS: dict[str, type[RunSearch] | type[BlendSearch]] = {"run": RunSearch, "blend": BlendSearch}


class _Kind(Config):
    model_config = ConfigDict(frozen=True, extra="ignore")
    kind: str = "run"


def load_search(path: str | Path, overrides: Sequence[str] = ()) -> RunSearch | BlendSearch:
    """Read a file of configs/tune/.

    Raises:
        ConfigError: as `configs.load`, or no such kind.
    """
    kind = load(path, _Kind, overrides).kind
    if kind not in KINDS:
        raise ConfigError(f"{path}: kind: {kind!r}: no such search{near_miss(kind, KINDS)}")
    return load(path, KINDS[kind], overrides)

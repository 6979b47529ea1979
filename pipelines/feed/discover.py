"""Finds components by listing the stage folders, and makes them from feed.yaml."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from configs import Config, ConfigError, near_miss
from pipelines.feed.experiments import Experiment
from pipelines.feed.slots import Slot
from pipelines.feed.stages import STAGES, Component, snake_case

Found = Mapping[str, Mapping[str, type[Component]]]  # stage -> name -> class
C = TypeVar("C", bound=Component)

# Settings of one stage: component -> its settings; null switches the component off.
Settings = dict[str, dict[str, Any] | None]


def _is_stage(name: str) -> str:
    if name not in STAGES:
        raise ValueError(f"no such stage{near_miss(name, STAGES)}")
    return name


class FeedConfig(Config):
    """feed.yaml: what differs from all components with their defaults.

    A component that is not named runs with its defaults, unless its stage is one of `only`. The
    order of a stage's keys matters for `post_filters` only: those named come first, in that order.
    """

    query_hydrators: Settings = Field(default_factory=dict)
    sources: Settings = Field(default_factory=dict)
    hydrators: Settings = Field(default_factory=dict)
    filters: Settings = Field(default_factory=dict)
    scorers: Settings = Field(default_factory=dict)
    selectors: Settings = Field(default_factory=dict)
    post_filters: Settings = Field(default_factory=dict)
    side_effects: Settings = Field(default_factory=dict)
    slots: tuple[Slot, ...] = ()  # places between posts for what is no post
    # Stages of which nothing runs but what is named, so that a component added later stays out.
    only: tuple[Annotated[str, AfterValidator(_is_stage)], ...] = ()
    # What a request must give, as FeedQuery calls it; a feed that does not require it takes none.
    requires: tuple[Literal["text", "focal_post_id"], ...] = ()
    allow: tuple[str, ...] = ()  # settings that a request may change, as stage.component.setting
    experiments: dict[str, Experiment] = Field(default_factory=dict)


def discover() -> dict[str, dict[str, type[Component]]]:
    """List every component: stage -> name -> class, names in alphabetical order.

    Raises:
        TypeError: a file without the class that its name promises, or a class
            that is not a frozen dataclass of its folder's stage.
    """
    return {stage: dict(_in_folder(stage)) for stage in STAGES}


def build_components(config: FeedConfig, found: Found) -> list[Component]:
    """Make the components of a feed, in stage order.

    Raises:
        ConfigError: an unknown component or setting (the near miss is named), or
            a value of the wrong type or range, or half of what the cache of posts needs.
    """
    made = []
    for stage in STAGES:
        settings: Settings = getattr(config, stage)
        classes = found[stage]
        for name in settings:
            if name not in classes:
                raise ConfigError(f"{stage}.{name}: no such component{near_miss(name, classes)}")
        others = () if stage in config.only else (n for n in classes if n not in settings)
        names = [*settings, *others]
        if stage != "post_filters":
            names.sort()
        for name in names:
            values = settings.get(name, {})
            if values is not None:
                made.append(_make(classes[name], values))
    keys = {component.key for component in made}
    if "query_hydrators.cached_posts" in keys and "sources.cached_posts" not in keys:
        raise ConfigError(
            "sources.cached_posts: not in this feed, but query_hydrators.cached_posts is, for "
            "which the other sources make way; switch it off as well"
        )
    return made


def _in_folder(stage: str) -> Iterable[tuple[str, type[Component]]]:
    package = importlib.import_module(f"pipelines.feed.{stage}")
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"{package.__name__}.{name}")
        classes = [c for c in vars(module).values() if isinstance(c, type)]
        mine = [c for c in classes if snake_case(c.__name__) == name and issubclass(c, Component)]
        if not mine or mine[0].stage != stage:
            raise TypeError(
                f"{module.__file__}: expected a component of {stage} whose class is "
                f"{''.join(part.capitalize() for part in name.split('_'))}"
            )
        check_frozen(mine[0])
        yield name, mine[0]


def check_frozen(cls: type[Component]) -> None:
    """Refuse a component that could change between requests.

    Raises:
        TypeError: not itself decorated with @dataclass(frozen=True, kw_only=True).
    """
    params = vars(cls).get("__dataclass_params__")
    if params is None or not params.frozen or not all(field.kw_only for field in fields(cls)):  # type: ignore[arg-type]
        raise TypeError(
            f"{cls.stage}.{cls.name}: decorate it @dataclass(frozen=True, kw_only=True)"
        )


@cache
def _adapter(cls: type[C]) -> TypeAdapter[C]:
    """Takes milliseconds to make, and a search composes thousands of feeds."""
    return TypeAdapter(cls)


def _make(cls: type[C], values: Mapping[str, Any]) -> C:
    assert is_dataclass(cls)
    place, known = f"{cls.stage}.{cls.name}", [field.name for field in fields(cls)]
    for name in values:
        if name not in known:
            raise ConfigError(f"{place}.{name}: no such setting{near_miss(name, known)}")
    try:
        return _adapter(cls).validate_python(values)
    except ValidationError as error:
        lines = [f"{place}.{e['loc'][0]}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from None

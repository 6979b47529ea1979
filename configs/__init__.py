"""Reads one YAML file plus `a.b=value` overrides into one frozen, checked object.

Defaults, types, units and docs live in the model beside its owner; YAML holds
only what differs. This is the only code under `configs/`, with the words for a
name that is not known.
"""

from __future__ import annotations

import copy
import difflib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """Base of every settings object: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ConfigError(ValueError):
    """A settings file or override that cannot be used; the text says where and why."""


C = TypeVar("C", bound=Config)


def load(path: str | Path, model: type[C], overrides: Sequence[str] = ()) -> C:
    """Read `path`, apply `overrides` in order, and check the result against `model`.

    Args:
        path: a YAML mapping that holds only what differs from the defaults.
        model: the settings class that owns the defaults.
        overrides: `a.b=value`; the value is read as YAML, so `2`, `true`, `null`
            and `[1, 2]` have their YAML types.

    Raises:
        ConfigError: unreadable file, malformed override, unknown key (the near
            miss is named), or a value of the wrong type or range.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read ({error.strerror})") from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    return check(parse_overrides(overrides, onto=values), model, place=str(path))


def parse_overrides(overrides: Sequence[str], onto: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read `a.b=value` strings into nested settings, over those of `onto`.

    Raises:
        ConfigError: not of that form, or `a` is a value rather than a group.
    """
    values = copy.deepcopy(onto or {})
    for override in overrides:
        _apply(values, override)
    return values


def check(values: dict[str, Any], model: type[C], place: str) -> C:
    """Check plain `values` against `model`; errors name `place` and the near miss.

    Raises:
        ConfigError: as for `load`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item, model) for item in error.errors()]
        raise ConfigError("\n".join(f"{place}: {line}" for line in lines)) from None


def _apply(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")):
        raise ConfigError(f"{override}: expected an override of the form a.b=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override}: the value is not valid YAML: {error}") from error
    *parents, last = dotted.split(".")
    place = values
    for depth, key in enumerate(parents):
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            at = ".".join(parents[: depth + 1])
            raise ConfigError(f"{override}: {at} is {place!r}, not a group of settings")
    place[last] = value


def near_miss(name: str, have: Iterable[str], listed: bool = True, cutoff: float = 0.6) -> str:
    """The end of an error about a name: what was likely meant, and what there is.

    Args:
        name: what is none of `have`.
        have: every name that there is.
        listed: whether to list them.
        cutoff: how alike names must be, 0 to 1.

    Returns:
        `; did you mean 'age'? (have: age, author)`, or the part of it that there is to say.
    """
    names = sorted(have)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (have: {', '.join(names) or 'none'})" if listed else hint


def _explain(item: Any, model: type[BaseModel]) -> str:
    loc = item["loc"]
    dotted = ".".join(str(part) for part in loc)
    if item["type"] != "extra_forbidden":
        return f"{dotted}: {item['msg']}, got {item['input']!r}"
    fields = _fields_at(model, loc[:-1])
    return f"{dotted}: no such setting{near_miss(str(loc[-1]), fields)}"


def _fields_at(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Names of the settings in the group at `loc`, through optional and tagged models."""
    for here, after in itertools.zip_longest(loc, loc[1:]):
        field = model.model_fields.get(str(here))
        if field is None:
            continue  # a list index or the tag of a union: the model was chosen already
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        tagged = [k for k in inner if after in _tags(k)]
        model = (tagged or inner or [model])[0]
    return list(model.model_fields)


def _tags(model: type[BaseModel]) -> set[Any]:
    """Defaults of the model's settings; a tagged union's tag is one of them."""
    return {f.default for f in model.model_fields.values() if isinstance(f.default, str)}

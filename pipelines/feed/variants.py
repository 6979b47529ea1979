"""The feeds that one feed.yaml describes: the usual one, those of experiments, and a request's own.

A variant is the whole feed composed again with some settings changed, so it is checked as
strictly as the usual one; those in use are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from configs import ConfigError, near_miss
from pipelines.feed.discover import FeedConfig, Found, build_components
from pipelines.feed.experiments import Experiment
from pipelines.feed.stages import STAGES, Component, FeedQuery
from pipelines.feed.waves import Stages, members, waves

_KEPT = 256  # variants; a request may ask for any value, so there is no end of them


@dataclass(frozen=True)
class Variant:
    """A composed feed, and which arm of each experiment the viewer is in.

    `fingerprint` names all settings of its components: equal iff they are.
    """

    stages: Stages
    arms: Mapping[str, str]
    fingerprint: str


class Variants:
    """Chooses the feed of each request.

    Attributes:
        usual: stages of the feed without any experiment.
        slots: of every feed.
    """

    def __init__(self, config: FeedConfig, found: Found) -> None:
        """Compose the usual feed and that of every arm.

        Raises:
            ConfigError, WiringError: as `Pipeline.build`; also if `allow` or an arm names what
                is not there, or two experiments change the same setting.
        """
        self._config, self._found = config, found
        self.slots = config.slots
        self._kept: OrderedDict[str, tuple[Stages, str]] = OrderedDict()
        self.usual, self._usual = self._composed({})
        have = _settings_of(members(self.usual))
        for name in config.allow:
            if name not in have:
                hint = near_miss(name, have, listed=False)
                raise ConfigError(f"allow: no such setting: {name}{hint}")
        owners: dict[str, str] = {}
        for experiment, settings in config.experiments.items():
            for name in sorted({name for arm in settings.arms.values() for name in arm.settings}):
                other = owners.setdefault(name, experiment)
                if other != experiment:
                    raise ConfigError(f"experiments: {other} and {experiment} both change {name}")
            for name, arm in settings.arms.items():
                place = f"experiments.{experiment}.arms.{name}"
                try:
                    self._composed(arm.settings)
                except ValueError as error:
                    raise type(error)(f"{place}: {error}") from error

    def over(self, settings: Mapping[str, Any]) -> Variants:
        """The same feeds, over a bundle's settings.

        Raises:
            ConfigError, WiringError: as for a new one.
        """
        kept = open_to(self._config, settings)
        return Variants(changed(self._config, kept), self._found) if kept else self

    def sharing(self, experiments: Mapping[str, Experiment]) -> Variants:
        """The same feeds with these experiments and no others.

        Raises:
            ConfigError, WiringError: as for a new one.
        """
        config = self._config.model_copy(update={"experiments": dict(experiments)})
        return Variants(config, self._found)

    @property
    def requires(self) -> tuple[str, ...]:
        """What a request must give, as FeedQuery calls it."""
        return self._config.requires

    def of(self, query: FeedQuery) -> Variant:
        """The feed of one request: the viewer's arms, then what the request itself changes.

        Raises:
            ConfigError: the request changes what `allow` does not name, or to no allowed value.
        """
        for name in query.overrides:
            if name not in self._config.allow:
                raise ConfigError(
                    f"{name}: not a setting that a request may change"
                    f"{near_miss(name, self._config.allow)}"
                )
        experiments = self._config.experiments
        arms = {name: each.arm_of(name, query.user_id) for name, each in experiments.items()}
        settings: dict[str, Any] = {}
        for name, arm in arms.items():
            settings |= experiments[name].arms[arm].settings
        settings |= query.overrides
        stages, name = self._composed(settings) if settings else (self.usual, self._usual)
        return Variant(stages, arms, name)

    def _composed(self, settings: Mapping[str, Any]) -> tuple[Stages, str]:
        """A feed and its fingerprint."""
        key = json.dumps(settings, sort_keys=True, default=repr)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        stages = waves(build_components(changed(self._config, settings), self._found))
        made = repr(list(members(stages))).encode()  # of dataclasses: names and all settings
        self._kept[key] = stages, hashlib.sha256(made).hexdigest()[:16]
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


def open_to(config: FeedConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a bundle's settings, named as for `changed`, of which `config` says nothing itself.

    Also left out are those of components that are not in the feed.
    """
    kept = {}
    for name, value in settings.items():
        stage, component, setting = name.split(".", 2)
        there = getattr(config, stage, {}).get(component, None if stage in config.only else {})
        if there is not None and setting not in there:
            kept[name] = value
    return kept


def changed(config: FeedConfig, settings: Mapping[str, Any]) -> FeedConfig:
    """`config` with `settings`, as `Arm.settings` names them, on top.

    Raises:
        ConfigError: a name of another form, of no stage, or of a component that is switched off.
    """
    values = {stage: dict(getattr(config, stage)) for stage in STAGES}
    for name, value in settings.items():
        stage, _, rest = name.partition(".")
        component, _, setting = rest.partition(".")
        if stage not in STAGES or not component:
            raise ConfigError(f"{name}: expected stage.component.setting{near_miss(stage, STAGES)}")
        if not setting:
            if value is not None:
                raise ConfigError(f"{name}: expected null, which switches it off, got {value!r}")
            values[stage][component] = None
            continue
        there = values[stage].get(component, None if stage in config.only else {})
        if there is None:
            raise ConfigError(f"{name}: {stage}.{component} is switched off")
        values[stage][component] = {**there, setting: value}
    return config.model_copy(update=values)


def _settings_of(components: Iterable[Component]) -> set[str]:
    return {f"{c.key}.{field.name}" for c in components for field in fields(c)}  # type: ignore[arg-type]

"""One setting of a feed's blend: the weights of actions, the field, and what feed.yaml may say.

Names of a blend's space, as in configs/tune/blend.yaml:

    weights.<action>                      worth of an action, as in a bundle's blend.json
    interference.<setting>                of train.models.fractal.blend, such as interference.alpha,
                                          interference.field.base_scale; scale weights one by one:
                                          interference.field.scale_weights.0
    <stage>.<component>.<setting>         of feed.yaml, of scorers, selectors and post_filters
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, check, near_miss
from pipelines.feed.discover import FeedConfig
from pipelines.feed.variants import open_to
from train.bundle import Bundle
from train.models.fractal.blend import InterferenceBlend

STAGES = ("scorers", "selectors", "post_filters")  # what comes before them is computed once
_MODE = "scorers.interference.mode"
_SCALES = "interference.field.scale_weights."


@dataclass(frozen=True)
class Blended:
    """A blend that a feed can be made with.

    Attributes:
        weights: of the bundle's actions. float64 [A].
        interference: the field, and its weight.
        feed: stage.component.setting -> value, beside feed.yaml.
    """

    weights: NDArray[np.float64]
    interference: InterferenceBlend
    feed: Mapping[str, Any]

    @classmethod
    def of(cls, bundle: Bundle, feed: FeedConfig, settings: Mapping[str, Any]) -> Blended:
        """The bundle's own blend with some settings changed; the field is on if any is its.

        Args:
            bundle: whose blend.
            feed: the feed.yaml that it is for, whose settings win over a bundle's.
            settings: by name.

        Raises:
            ConfigError: a name that there is not (the near miss is named), an action that was
                never learned, a value that is not allowed, or a setting that feed.yaml fixes.
            BundleError: a field of prefix vectors, which the bundle lacks.
        """
        weights = bundle.weights.copy()
        for name in _under("weights.", settings):
            weights[_column(bundle, name)] = float(settings[f"weights.{name}"])
        of_field = _under("interference.", settings)
        changes = {name: settings[f"interference.{name}"] for name in of_field}
        stages = {n: v for n, v in settings.items() if n.partition(".")[0] in STAGES}
        for name in settings:
            kind = name.partition(".")[0]
            if kind not in ("weights", "interference", *STAGES):
                kinds = ("weights", "interference", *STAGES)
                raise ConfigError(f"space.{name}: no such setting{near_miss(kind, kinds)}")
        if of_field and _MODE not in stages:
            stages[_MODE] = "on"
        for name, value in stages.items():
            _check_free(feed, name, value)
        stages = {**open_to(feed, bundle.feed_settings), **stages}
        blend = _interference(bundle.interference, changes)
        of_scorer = (feed.scorers.get("interference") or {}).get("space")
        for space in (blend.space, stages.get("scorers.interference.space", of_scorer)):
            bundle.check_space(space)
        return cls(weights, blend, stages)


def groups(names: Iterable[str]) -> dict[str, list[str]]:
    """Settings that only make sense together: the weights of the scales; others are alone."""
    found: dict[str, list[str]] = {}
    for name in names:
        key = _SCALES.rstrip(".") if name.startswith(_SCALES) else name
        found.setdefault(key, []).append(name)
    return found


def switched_off(name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings without what `name` weighs; None where it weighs nothing itself."""
    if name.startswith("weights."):
        return {**settings, name: 0.0}
    if name.startswith("interference."):
        if name != "interference.alpha":
            return None
        rest = {n: v for n, v in settings.items() if not n.startswith("interference.")}
        return {**rest, "interference.alpha": 0.0}
    stage, component, _ = name.split(".", 2)
    if stage != "scorers":
        return None
    prefix = f"{stage}.{component}"
    rest = {n: v for n, v in settings.items() if not n.startswith(f"{prefix}.")}
    return {**rest, prefix: None}


def _under(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    return [name.removeprefix(prefix) for name in settings if name.startswith(prefix)]


def _column(bundle: Bundle, action: str) -> int:
    if action not in bundle.actions:
        hint = near_miss(action, bundle.actions)
        raise ConfigError(f"space.weights.{action}: no such action{hint}")
    learned = bundle.card["observed_actions"]
    if action not in learned:
        raise ConfigError(
            f"space.weights.{action}: the bundle never learned it, so it weighs nothing "
            f"(learned: {', '.join(learned)})"
        )
    return bundle.actions.index(action)


def _interference(base: InterferenceBlend, changes: Mapping[str, Any]) -> InterferenceBlend:
    """`base` with settings as a.b; scale_weights.0, .1, … become one tuple."""
    values = base.model_dump(mode="json")
    prefix = _SCALES.removeprefix("interference.")
    scales = {n.removeprefix(prefix): v for n, v in changes.items() if n.startswith(prefix)}
    for name, value in changes.items():
        if not name.startswith(prefix):
            group, _, last = name.rpartition(".")
            (values.setdefault(group, {}) if group else values)[last] = value
    if scales:
        wanted = [str(at) for at in range(values["field"]["num_scales"])]
        if sorted(scales) != wanted:
            raise ConfigError(
                f"space.interference.field.scale_weights: give all of {', '.join(wanted)}, "
                f"not {', '.join(sorted(scales))}"
            )
        values["field"]["scale_weights"] = [scales[at] for at in wanted]
    return check(values, InterferenceBlend, place="space.interference")


def _check_free(feed: FeedConfig, name: str, value: Any) -> None:
    """Refuse what feed.yaml says itself: it wins, so the bundle's word would count for nothing."""
    stage, component, setting = (*name.split(".", 2), "")[:3]
    given = getattr(feed, stage).get(component, {})
    if given is not None and setting in given and given[setting] != value:
        raise ConfigError(
            f"space.{name}: feed.yaml sets it to {given[setting]!r}, which wins over a bundle; "
            "take it out there"
        )

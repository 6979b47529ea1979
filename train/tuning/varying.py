"""Which scorers a space can change: the others run once for each request, not for each trial."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from pipelines.feed.stages import Component
from pipelines.feed.waves import Stages

_STAGE = "scorers"


def varying(stages: Stages, names: Iterable[str]) -> set[str]:
    """Keys of the scorers whose columns settings of these names can change.

    Those that are named, those that read what actions are worth if that is, the field if it or what
    makes a post liked is, and all that read a column of one of them.
    """
    names = list(names)
    weights = any(name.startswith("weights.") for name in names)
    found = {".".join(name.split(".")[:2]) for name in names}
    if weights or any(name.startswith("interference.") for name in names):
        found.add("scorers.interference")
    columns = ["query.blend"] if weights else []
    keys = set()
    for component in (component for wave in stages[_STAGE] for component in wave):
        asked = (*component.needs, *component.wants)
        reads = any(fnmatchcase(column, one) for column in columns for one in asked)
        if component.key in found or reads:
            keys.add(component.key)
            columns += component.provides
    return keys


def only(stages: Stages, keys: set[str], inside: bool) -> Stages:
    """The same feed with the scorers in `keys` alone, or with all others."""
    waves = [tuple(c for c in wave if _in(c, keys) == inside) for wave in stages[_STAGE]]
    return {**stages, _STAGE: tuple(wave for wave in waves if wave)}


def _in(component: Component, keys: set[str]) -> bool:
    return component.key in keys

"""Which components of a stage run together and which wait, from needs and provides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter

from configs import near_miss
from pipelines.feed.stages import STAGES, Component

# Components that do not depend on each other; they run side by side.
Wave = tuple[Component, ...]
Stages = Mapping[str, Sequence[Wave]]  # a composed feed


class WiringError(ValueError):
    """A feed whose components do not fit together; the text says which and why."""


def waves(components: Sequence[Component]) -> dict[str, tuple[Wave, ...]]:
    """Order `components`: stage -> waves, each wave after all that it needs.

    Within a wave the order given is kept.

    Raises:
        WiringError: a column that is needed and that nothing provides, or only a
            later stage; a column with two writers; components that wait for each
            other; a number of selectors other than one.
    """
    writers = _writers(components)
    for component in components:
        for need in component.needs:
            _check_need(component, need, writers)
    selectors = [c.name for c in components if c.stage == "selectors"]
    if len(selectors) != 1:
        raise WiringError(f"selectors: exactly one is needed, have: {', '.join(selectors) or '-'}")
    ordered = {}
    for stage in STAGES:
        members = [c for c in components if c.stage == stage]
        ordered[stage] = tuple(_order(members, writers))
    return ordered


def members(stages: Stages) -> Iterable[Component]:
    """All components in the order they run."""
    return (c for stage in stages.values() for wave in stage for c in wave)


def _writers(components: Iterable[Component]) -> dict[str, Component | None]:
    writers: dict[str, Component | None] = {"post_id": None}  # the engine's, from the sources on
    for component in components:
        for column in component.provides:
            if column in writers:
                other = writers[column]
                raise WiringError(
                    f"{component.key} provides {column!r}, which "
                    f"{other.key if other else 'the engine'} writes already"
                )
            writers[column] = component
    return writers


def _check_need(component: Component, need: str, writers: dict[str, Component | None]) -> None:
    if need not in writers:
        hint = near_miss(need, writers, listed=False, cutoff=0.75)
        raise WiringError(f"{component.key} needs {need!r}, which nothing provides{hint}")
    writer = writers[need]
    # What sources bring is a column only once all of them are merged.
    ready = "hydrators" if writer is None or writer.stage == "sources" else writer.stage
    if STAGES.index(component.stage) < STAGES.index(ready):
        by = writer.key if writer else "the engine"
        raise WiringError(f"{component.key} needs {need!r}, which {by} provides only later")


def _order(members: Sequence[Component], writers: dict[str, Component | None]) -> Iterable[Wave]:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for component in members:
        sorter.add(component.key, *_waits_for(component, writers))
    try:
        sorter.prepare()
    except CycleError as error:
        raise WiringError(
            f"{' -> '.join(reversed(error.args[1]))}: each needs what the next one provides"
        ) from None
    while sorter.is_active():
        ready = set(sorter.get_ready())
        sorter.done(*ready)
        yield tuple(component for component in members if component.key in ready)


def _waits_for(component: Component, writers: dict[str, Component | None]) -> set[str]:
    """Keys of the components of the same stage that must run before `component`."""
    wanted = [
        column
        for column in writers
        if column in component.needs or any(fnmatchcase(column, want) for want in component.wants)
    ]
    before = (writers[column] for column in wanted)
    return {c.key for c in before if c is not None and c.stage == component.stage}

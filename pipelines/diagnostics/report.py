"""Diagnostics of one post or author as findings: each number with all it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pipelines.diagnostics.composites import (
    DIMENSIONS,
    KNOWN,
    SCORES,
    Composite,
    Value,
    compose,
)
from pipelines.diagnostics.parts import PARTS, Measured, Part, measure, place, why_unknown
from pipelines.diagnostics.rates import Floats, Needed, percentile, wilson
from pipelines.diagnostics.tally import LATELY_H, WINDOW_H, Base, Surfaces, Tally


@dataclass(frozen=True)
class Finding:
    """One part, dimension or score.

    Attributes:
        value: None = unknown, and `unknown` says why; low, high: ends of its interval.
        typical: the value of what is like the log over all, or in the middle; None = unknown.
        formula: in words; inputs: its numbers by name, or the known terms of a composite.
        over: terms of a composite that are known, and that it was taken over.
        sample: how many of what `counted` says.
        percentile: share of the `among` others of the bundle whose value is known that have a
            lower one; None = unknown.
    """

    name: str
    about: str
    value: float | None
    low: float | None
    high: float | None
    typical: float | None
    formula: str
    inputs: Mapping[str, float]
    over: tuple[str, ...]
    window: str
    sample: float | None
    counted: str
    unknown: str | None
    percentile: float | None
    among: int


@dataclass(frozen=True)
class ActionRate:
    """How often one action was done, with Wilson's 95 % interval, beside the base rate."""

    action: str
    done: int
    shown: int
    rate: float | None
    low: float
    high: float
    base_rate: float
    weight: float
    beside: str


@dataclass(frozen=True)
class OnSurface:
    """What one product surface contributes, of the showings that the profiles hold.

    Attributes:
        share, low, high: of the post's or author's showings, with Wilson's 95 % interval.
        base_share: the same of all posts.
        worth_share: of what its viewers did for it, by the weights of the ranker.
    """

    surface: int
    shown: int
    share: float
    low: float
    high: float
    base_share: float
    worth_share: float | None


@dataclass(frozen=True)
class Ranks:
    """Known values of the bundle's posts or authors by name, sorted.

    Attributes:
        raw: of parts on the percentile scale, the number that is placed.
        values: of parts, dimensions and scores.
    """

    raw: Mapping[str, Floats]
    values: Mapping[str, Floats]


@dataclass(frozen=True)
class Report:
    """What is known of one post or author."""

    shown: int
    rates: tuple[ActionRate, ...]
    scores: tuple[Finding, ...]
    dimensions: tuple[Finding, ...]
    parts: tuple[Finding, ...]
    surfaces: tuple[OnSurface, ...]


def rank(tally: Tally, base: Base, needed: Needed, authors: Ranks | None = None) -> Ranks:
    """Sort the values of many posts, whose authors are placed among `authors`, or of authors."""
    measured = measure(tally, base, needed)
    raw = {part.name: _sorted(measured[part.name].value) for part in PARTS}
    if authors is not None:
        raw |= {part.name: authors.raw[part.name] for part in PARTS if part.of == "author"}
    placed = place(measured, raw, needed)
    values: dict[str, Measured | Value] = {**placed, **compose(placed)}
    return Ranks(raw, {name: _sorted(one.value) for name, one in values.items()})


def report(
    tally: Tally, surfaces: Surfaces, base: Base, among: Ranks, authors: Ranks, needed: Needed
) -> Report:
    """Diagnose the one post or author of `tally` (N = 1).

    Args:
        tally: its counts.
        surfaces: where it was shown.
        base: the log over all.
        among: what it is ranked among.
        authors: what its author is ranked among; for an author the same.
        needed: with less, a number is unknown.
    """
    placed = place(measure(tally, base, needed), among.raw, needed)
    composites = compose(placed)
    known: dict[str, Measured | Value] = {**placed, **composites}
    ranks = {
        part.name: (authors if part.of == "author" else among).values[part.name] for part in PARTS
    }
    return Report(
        shown=int(tally.shown[0]),
        rates=_rates(tally, base),
        scores=tuple(_composite(one, known, among, base, needed) for one in SCORES),
        dimensions=tuple(_composite(one, known, among, base, needed) for one in DIMENSIONS),
        parts=tuple(
            _part(one, placed[one.name], (ranks[one.name], among.raw[one.name]), base, needed)
            for one in PARTS
        ),
        surfaces=_surfaces(surfaces),
    )


def _part(
    part: Part, one: Measured, among: tuple[Floats, Floats], base: Base, needed: Needed
) -> Finding:
    value, (ranks, raw) = _number(one.value[0]), among
    inputs = {name: np.ravel(np.asarray(v, np.float64))[0] for name, v in one.inputs.items()}
    return Finding(
        name=part.name,
        about=part.about,
        value=value,
        low=_number(one.low[0]),
        high=_number(one.high[0]),
        typical=0.5,
        formula=part.formula,
        inputs={name: float(v) for name, v in inputs.items() if not np.isnan(v)},
        over=(),
        window=window(part.window, base),
        sample=_number(one.sample[0]),
        counted=part.counted,
        unknown=None if value is not None else why_unknown(part, one, raw, needed),
        percentile=_place(one.value, ranks, needed),
        among=len(ranks),
    )


def _composite(
    composite: Composite,
    known: Mapping[str, Measured | Value],
    among: Ranks,
    base: Base,
    needed: Needed,
) -> Finding:
    one, ranks = known[composite.name], among.values[composite.name]
    terms = {term.name: _number(known[term.name].value[0]) for term in composite.terms}
    inputs = {name: value for name, value in terms.items() if value is not None}
    weight = sum(term.weight for term in composite.terms if term.name in inputs)
    value = _number(one.value[0])
    sample = _number(one.sample[0])
    typical = sum((0.5 * term.weight) for term in composite.terms) * composite.top
    return Finding(
        name=composite.name,
        about=composite.about,
        value=value,
        low=_number(one.low[0]),
        high=_number(one.high[0]),
        typical=typical,
        formula=composite.formula,
        inputs=inputs,
        over=tuple(inputs) if value is not None else (),
        window=f"that of its terms, until {day(base.to_ms)}",
        sample=sample if inputs else None,
        counted="in the smallest of the samples of the known terms",
        unknown=None if value is not None else _why(composite, inputs, weight),
        percentile=_place(one.value, ranks, needed),
        among=len(ranks),
    )


def _why(composite: Composite, inputs: Mapping[str, float], weight: float) -> str:
    if missing := [name for name in composite.needs if name not in inputs]:
        return f"{', '.join(missing)} is unknown, and without it there is no {composite.name}"
    have = ", ".join(inputs) or "nothing"
    return f"{have} is known, {weight:.2g} of the weight; {KNOWN:g} is needed"


def _rates(tally: Tally, base: Base) -> tuple[ActionRate, ...]:
    shown = float(tally.shown[0])
    rates = []
    for at in np.flatnonzero(base.done > 0):
        done, base_rate = float(tally.done[0, at]), float(base.rates[at])
        low, high = (float(end) for end in wilson(done, shown))
        beside = "cannot be told apart"
        if low > base_rate:
            beside = "above"
        elif high < base_rate:
            beside = "below"
        rates.append(
            ActionRate(
                action=base.actions[at],
                done=int(done),
                shown=int(shown),
                rate=done / shown if shown else None,
                low=low,
                high=high,
                base_rate=base_rate,
                weight=float(base.weight[at]),
                beside=beside,
            )
        )
    return tuple(rates)


def _surfaces(surfaces: Surfaces) -> tuple[OnSurface, ...]:
    total, worth = surfaces.shown.sum(), surfaces.worth.sum()
    low, high = wilson(surfaces.shown, np.full(len(surfaces.shown), total))
    return tuple(
        OnSurface(
            surface=int(surfaces.surface[at]),
            shown=int(surfaces.shown[at]),
            share=float(surfaces.shown[at] / total),
            low=float(low[at]),
            high=float(high[at]),
            base_share=float(surfaces.base_shown[at] / max(surfaces.base_shown.sum(), 1)),
            worth_share=float(surfaces.worth[at] / worth) if worth > 0 else None,
        )
        for at in np.argsort(-surfaces.shown, kind="stable")
        if surfaces.shown[at] > 0
    )


def window(name: str, base: Base) -> str:
    """What a part's window is, in words."""
    to = day(base.to_ms)
    if name == "log":
        return f"the whole log of the bundle, until {to}"
    if name == "bundle":
        return f"posts and follows of the bundle, as of {to}"
    held = "the newest events of each viewer, as the bundle's profiles hold them"
    if name == "lately":
        return f"{held}: of those the {WINDOW_H} hours until {to}, and their last {LATELY_H}"
    return f"{held}, {day(base.profiles_from_ms)} to {to}"


def day(at_ms: int) -> str:
    """An instant in words, to the minute."""
    if at_ms <= 0:
        return "an unknown time"
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _place(value: Floats, ranks: Floats, needed: Needed) -> float | None:
    """Percentile of the one value, None = unknown, or too few others are known."""
    others = ranks if len(ranks) >= needed.min_compared else ranks[:0]
    return _number(percentile(value, others)[0])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _sorted(values: Floats) -> Floats:
    return np.sort(values[~np.isnan(values)])

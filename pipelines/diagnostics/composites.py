"""Dimensions and scores as weighted means of parts: definitions as data, and their one formula.

The weights are this project's convention: nothing was fitted to them, and no ranking reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.diagnostics.parts import Measured
from pipelines.diagnostics.rates import Floats

KNOWN = 0.5  # of a composite's weight must be known, or the composite is not


@dataclass(frozen=True)
class Term:
    """A part or composite and its weight; `inverted`: 1 less it counts."""

    name: str
    weight: float
    inverted: bool = False

    def __str__(self) -> str:
        return f"{self.weight:g} x {f'(1 - {self.name})' if self.inverted else self.name}"


@dataclass(frozen=True)
class Composite:
    """A weighted mean of its terms.

    Attributes:
        terms: weights add up to 1.
        needs: terms without which it is unknown, whatever else is known.
        top: what its largest value is called; its smallest is 0.
    """

    name: str
    about: str
    terms: tuple[Term, ...]
    needs: tuple[str, ...] = ()
    top: float = 1.0

    @property
    def formula(self) -> str:
        """The formula and the rule of what may be missing, in words."""
        scale = f"{self.top:g} x " if self.top != 1 else ""
        rule = f"the terms that are known; unknown when under {KNOWN:g} of the weight is"
        if self.needs:
            rule += f", or {' or '.join(self.needs)} is not known"
        return f"{scale}({' + '.join(map(str, self.terms))}) / weight of {rule}"


DIMENSIONS: tuple[Composite, ...] = (
    Composite(
        "content_quality",
        "whether it does better than its topics, and is its own",
        (Term("beyond_topic", 0.75), Term("originality", 0.25)),
    ),
    Composite(
        "engagement_quality",
        "how strong the intent is that viewers show",
        (Term("worth", 0.7), Term("long_stays", 0.3)),
    ),
    Composite(
        "network_authority",
        "where the author stands in the network, and whom it wins",
        (
            Term("follows_won", 0.5),
            Term("centrality", 0.2),
            Term("followers", 0.15),
            Term("cited", 0.15),
        ),
    ),
    Composite(
        "behavioural_consistency",
        "whether the author can be relied on over time",
        (Term("regularity", 0.5), Term("coherence", 0.5)),
    ),
    Composite(
        "negative_signals",
        "what viewers regret",
        (Term("regret", 0.5), Term("quick_exits", 0.5)),
    ),
)
SCORES: tuple[Composite, ...] = (
    Composite(
        "overall_signal_score",
        "all five dimensions in one number",
        (
            Term("engagement_quality", 0.3),
            Term("negative_signals", 0.25, inverted=True),
            Term("content_quality", 0.2),
            Term("network_authority", 0.15),
            Term("behavioural_consistency", 0.1),
        ),
        needs=("engagement_quality",),
        top=100.0,
    ),
    Composite(
        "trust_score",
        "whether the author has earned attention, and viewers do not regret it",
        (
            Term("network_authority", 0.4),
            Term("negative_signals", 0.35, inverted=True),
            Term("behavioural_consistency", 0.25),
        ),
    ),
    Composite(
        "spam_risk",
        "whether viewers treat it as spam",
        (Term("regret", 0.5), Term("quick_exits", 0.25), Term("originality", 0.25, inverted=True)),
        needs=("regret",),
    ),
    Composite(
        "viral_potential",
        "whether it travels, and faster than the rest",
        (Term("spread", 0.5), Term("engagement_quality", 0.25), Term("momentum", 0.25)),
        needs=("spread",),
    ),
)


@dataclass(frozen=True)
class Value:
    """A composite of N posts or authors, between 0 and its top. [N]; NaN = unknown.

    Attributes:
        low, high: the same formula over the ends of the terms' intervals. Wider than 95 %: all
            terms would have to be off to one side at once.
        sample: the smallest of the known terms' samples.
    """

    value: Floats
    low: Floats
    high: Floats
    sample: Floats


def compose(measured: Mapping[str, Measured]) -> dict[str, Value]:
    """Every dimension and score by name, of placed parts."""
    known: dict[str, Measured | Value] = dict(measured)
    composites: dict[str, Value] = {}
    for composite in (*DIMENSIONS, *SCORES):
        composites[composite.name] = known[composite.name] = _mean(composite, known)
    return composites


def _mean(composite: Composite, of: Mapping[str, Measured | Value]) -> Value:
    weight = np.array([term.weight for term in composite.terms])[:, None]
    given = [of[term.name] for term in composite.terms]
    known = np.stack([~np.isnan(one.value) for one in given])
    total = (weight * known).sum(axis=0)
    enough = total >= KNOWN - 1e-9
    for term, there in zip(composite.terms, known, strict=True):
        if term.name in composite.needs:
            enough &= there

    def mean(ends: list[Floats]) -> Floats:
        values = np.nan_to_num(np.stack(ends)) * known
        with np.errstate(invalid="ignore", divide="ignore"):
            found = composite.top * np.clip((weight * values).sum(axis=0) / total, 0, 1)
        return np.where(enough, found, np.nan)

    pairs = list(zip(composite.terms, given, strict=True))
    return Value(
        value=mean([1 - one.value if term.inverted else one.value for term, one in pairs]),
        low=mean([1 - one.high if term.inverted else one.low for term, one in pairs]),
        high=mean([1 - one.low if term.inverted else one.high for term, one in pairs]),
        sample=np.where(known, np.stack([one.sample for one in given]), np.inf).min(axis=0),
    )

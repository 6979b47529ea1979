"""What an explanation of a post's place says, as values and as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipelines.feed.result import Outcome as Ran

Outcome = Literal["served", "below", "cut", "dropped", "not_retrieved"]
TERMS_IN_WORDS = 3


@dataclass(frozen=True)
class Brought:
    """A source brought a post as its `rank`-th (1 = best) for `value`, which means `meaning`."""

    source: str
    rank: int
    value: float
    meaning: str


@dataclass(frozen=True)
class Verdict:
    """What one filter said; `looked_at` holds the post's columns that it judged by.

    `outcome` other than "ok" means that the filter did not run, and that its
    declared way of failing decided.
    """

    filter: str
    kept: bool
    outcome: Ran
    looked_at: Mapping[str, float]


@dataclass(frozen=True)
class Term:
    """One action's part in a post's value: `points` = `amount` × `weight`.

    `amount` is a probability, or seconds for dwell_time.
    """

    action: str
    amount: float
    weight: float

    @property
    def points(self) -> float:
        """Worth added; negative for what viewers regret."""
        return self.amount * self.weight


@dataclass(frozen=True)
class Score:
    """How a score came about: `score` = `base_score` × every multiplier, in order.

    Attributes:
        basis: "value" = the predicted actions; "popularity" = they were missing.
        terms: by size, largest first; those of weight 0 left out. They add up to
            `value` where the value model is linear in these weights.
        value: worth of the predicted actions, or the popularity.
        base_score: `value` after the offset that keeps scores from being negative, plus what
            scorers add.
        multipliers: scorer -> what it multiplied the score by.
        notes: what scorers say of the post in words.
        numbers: scorer -> what it computed beside its effect, by name.
    """

    basis: Literal["value", "popularity"]
    terms: tuple[Term, ...]
    value: float
    base_score: float
    multipliers: Mapping[str, float]
    score: float
    notes: tuple[str, ...]
    numbers: Mapping[str, Mapping[str, float | tuple[float, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """The way of one post through one run of the feed.

    Attributes:
        outcome: "served" = on the page; "below" = ranked, but the page was full;
            "cut" = below what the selector looks at; "dropped" = by a filter or a
            rule of the page; "not_retrieved" = no source brought it.
        place: on the page, 1 = top.
        rank: by score among those that passed the filters, 1 = best.
        dropped_by: keys of the filters and page rules that dropped it, or that
            were to blame for an empty page.
        notes: what hydrators say of it in words.
        score: None where it was not scored.
        similarity: to the viewer, as given by the caller, of a post not retrieved.
        last_in: of a post not retrieved: the last post that each source brought.
        summary: all this in one sentence.
    """

    post_id: int
    outcome: Outcome
    place: int | None
    rank: int | None
    sources: tuple[Brought, ...]
    filters: tuple[Verdict, ...]
    dropped_by: tuple[str, ...]
    notes: tuple[str, ...]
    score: Score | None
    similarity: float | None
    last_in: tuple[Brought, ...]
    summary: str


def in_words(sources: tuple[Brought, ...], score: Score | None, notes: tuple[str, ...]) -> str:
    """Why a post is there: what hydrators say of it, who brought it, what its score is made of."""
    parts = [*notes, f"retrieved by {_listed(sources)}"]
    if score is not None:
        terms = [f"{t.action} {t.amount:.2g}×{t.weight:g}" for t in score.terms[:TERMS_IN_WORDS]]
        more = " …" if len(score.terms) > TERMS_IN_WORDS else ""
        by_terms = " + ".join(terms) + more
        parts += [by_terms or f"ordered by popularity {score.value:.2g}", *score.notes]
    return "; ".join(parts)


def _listed(sources: tuple[Brought, ...]) -> str:
    return " and ".join(f"{s.source} (#{s.rank}, {s.meaning})" for s in sources)


def summary_of(explanation: Explanation) -> str:
    """All that an explanation says in one sentence."""
    if explanation.outcome == "not_retrieved":
        return _not_retrieved(explanation)
    how = in_words(explanation.sources, explanation.score, explanation.notes)
    said = {
        "served": f"place {explanation.place} on the page",
        "below": f"ranked {explanation.rank}, below the page",
        "cut": "scored below all that the selector chose",
        "dropped": f"dropped by {', '.join(explanation.dropped_by)}",
    }
    return f"{said[explanation.outcome]}: {how}"


def _not_retrieved(explanation: Explanation) -> str:
    parts = ["no source brought it"]
    if explanation.dropped_by:
        parts.append(f"no post came past {', '.join(explanation.dropped_by)}")
    if explanation.similarity is not None:
        parts.append(f"its similarity is {explanation.similarity:.2f}")
    if explanation.last_in:
        parts.append(f"the last ones in: {_listed(explanation.last_in)}")
    return "; ".join(parts)

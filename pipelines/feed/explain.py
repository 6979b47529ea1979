"""Says why a post is where it is on a page, or why it is not there, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipelines.feed.result import FeedResult
from pipelines.feed.result import Outcome as Ran
from pipelines.feed.table import Candidates

Outcome = Literal["served", "below", "cut", "dropped", "not_retrieved"]
_TERMS_IN_WORDS = 3


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


class Explainer:
    """Explains results of a feed."""

    def __init__(self, actions: Sequence[str]) -> None:
        """Take the names of the actions, in the order of the columns of `p_action`."""
        self._actions = actions

    def reason(self, result: FeedResult, row: int) -> str:
        """Why the post at `row` of the page is there, in one short sentence."""
        page = result.page
        sources, score = self._sources(result, page, row), self._score(result, page, row)
        return _in_words(sources, score, _notes(result, "hydrators", page, row))

    def explain(
        self, result: FeedResult, post_id: int, similarity: float | None = None
    ) -> Explanation:
        """Follow one post through the run, whether or not it was retrieved.

        Of a post that no source brought, the caller may give the `similarity` to
        the viewer, to be read beside that of the last post brought.
        """
        row, scored = result.retrieved.row_of(post_id), result.scored.row_of(post_id)
        retrieved = row is not None
        place, rank = _nth(result.page, post_id), _nth(result.ranked, post_id)
        dropped_by = tuple(key for key, ids in result.dropped.items() if post_id in ids)
        if not dropped_by and place is None:
            dropped_by = tuple(self._closed(result))
        outcome: Outcome = "cut"
        if not retrieved:
            outcome = "not_retrieved"
        elif place is not None:
            outcome = "served"
        elif dropped_by:
            outcome = "dropped"
        elif rank is not None:
            outcome = "below"
        explanation = Explanation(
            post_id=post_id,
            outcome=outcome,
            place=place,
            rank=rank,
            sources=self._sources(result, result.retrieved, row),
            filters=self._verdicts(result, row),
            dropped_by=dropped_by,
            notes=() if row is None else _notes(result, "hydrators", result.retrieved, row),
            score=self._score(result, result.scored, scored),
            similarity=None if retrieved else similarity,
            last_in=() if retrieved else self._last_in(result),
            summary="",
        )
        return replace(explanation, summary=_summary(explanation))

    def _sources(
        self, result: FeedResult, posts: Candidates, row: int | None
    ) -> tuple[Brought, ...]:
        if row is None:
            return ()
        brought = []
        for source in _members(result, "sources"):
            rank, value = (posts[column][row].item() for column in source.provides)
            if rank:
                meaning = source.describe(result.query, value)
                brought.append(Brought(source.name, rank, value, meaning))
        return tuple(sorted(brought, key=lambda b: b.rank))

    def _verdicts(self, result: FeedResult, row: int | None) -> tuple[Verdict, ...]:
        if row is None:
            return ()
        posts, outcomes = result.retrieved, {t.key: t.outcome for t in result.trace}
        verdicts = []
        for component in _members(result, "filters"):
            kept = posts.post_id[row] not in result.dropped[component.key]
            scalars = [n for n in component.needs if n in posts and posts[n].ndim == 1]
            looked_at = {name: posts[name][row].item() for name in scalars}
            verdicts.append(Verdict(component.name, kept, outcomes[component.key], looked_at))
        return tuple(verdicts)

    def _score(self, result: FeedResult, posts: Candidates, row: int | None) -> Score | None:
        if row is None or "score" not in posts:
            return None
        valued = "value" in posts
        multipliers = {
            name.removesuffix("_multiplier"): posts[name][row].item()
            for name in posts
            if name.endswith("_multiplier")
        }
        return Score(
            basis="value" if valued else "popularity",
            terms=self._terms(posts, row) if valued else (),
            value=posts["value" if valued else "popularity"][row].item(),
            base_score=posts["base_score"][row].item(),
            multipliers=multipliers,
            score=posts["score"][row].item(),
            notes=_notes(result, "scorers", posts, row),
            numbers={
                scorer.name: told
                for scorer in _ran(result, "scorers", posts)
                if (told := scorer.numbers(posts, row))
            },
        )

    def _terms(self, posts: Candidates, row: int) -> tuple[Term, ...]:
        columns = (posts[name][row].tolist() for name in ("p_action", "action_weight"))
        terms = (Term(a, p, w) for a, p, w in zip(self._actions, *columns, strict=True))
        return tuple(sorted((t for t in terms if t.weight), key=lambda t: -abs(t.points)))

    def _last_in(self, result: FeedResult) -> tuple[Brought, ...]:
        last = []
        for source in _members(result, "sources"):
            rank = result.retrieved[f"{source.name}_rank"]
            if rank.any():
                of_last = self._sources(result, result.retrieved, int(rank.argmax()))
                last += [brought for brought in of_last if brought.source == source.name]
        return tuple(last)

    def _closed(self, result: FeedResult) -> Iterator[str]:
        """Components whose failure emptied the feed."""
        components = {c.key: c for c in result.components}
        for entry in result.trace:
            if entry.error is not None and components[entry.key].fails == "closed":
                yield entry.key


def _members(result: FeedResult, stage: str) -> Iterator[Any]:
    return (c for c in result.components if c.stage == stage)


def _ran(result: FeedResult, stage: str, posts: Candidates) -> Iterator[Any]:
    """Members of a stage whose columns are there."""
    return (c for c in _members(result, stage) if all(name in posts for name in c.provides))


def _notes(result: FeedResult, stage: str, posts: Candidates, row: int) -> tuple[str, ...]:
    described = (component.describe(posts, row) for component in _ran(result, stage, posts))
    return tuple(note for note in described if note is not None)


def _nth(posts: Candidates, post_id: int) -> int | None:
    row = posts.row_of(post_id)
    return None if row is None else row + 1


def _in_words(
    sources: tuple[Brought, ...], score: Score | None, notes: tuple[str, ...] = ()
) -> str:
    parts = [*notes, f"retrieved by {_listed(sources)}"]
    if score is not None:
        terms = [f"{t.action} {t.amount:.2g}×{t.weight:g}" for t in score.terms[:_TERMS_IN_WORDS]]
        more = " …" if len(score.terms) > _TERMS_IN_WORDS else ""
        by_terms = " + ".join(terms) + more
        parts += [by_terms or f"ordered by popularity {score.value:.2g}", *score.notes]
    return "; ".join(parts)


def _listed(sources: tuple[Brought, ...]) -> str:
    return " and ".join(f"{s.source} (#{s.rank}, {s.meaning})" for s in sources)


def _summary(explanation: Explanation) -> str:
    if explanation.outcome == "not_retrieved":
        return _not_retrieved(explanation)
    how = _in_words(explanation.sources, explanation.score, explanation.notes)
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

"""Says why a post is where it is on a page, or why it is not there, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from pipelines.feed.explanation import (
    TERMS_IN_WORDS,
    Brought,
    Explanation,
    Outcome,
    Score,
    Term,
    Verdict,
    in_words,
    summary_of,
)
from pipelines.feed.result import FeedResult
from pipelines.feed.table import Candidates


class Explainer:
    """Explains results of a feed."""

    def __init__(self, actions: Sequence[str]) -> None:
        """Take the names of the actions, in the order of the columns of `p_action`."""
        self._actions = actions

    def reasons(self, result: FeedResult) -> list[str]:
        """Why each post of the page is there, in one short sentence each."""
        page = result.page
        told = zip(
            self._sources(result, page),
            self._scores(result, page, TERMS_IN_WORDS + 1),
            _notes(result, "hydrators", page),
            strict=True,
        )
        return [in_words(*of_post) for of_post in told]

    def explain(
        self, result: FeedResult, post_id: int, similarity: float | None = None
    ) -> Explanation:
        """Follow one post through the run, whether or not it was retrieved.

        Of a post that no source brought, the caller may give the `similarity` to
        the viewer, to be read beside that of the last post brought.
        """
        found, scored = _only(result.retrieved, post_id), _only(result.scored, post_id)
        retrieved = len(found) > 0
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
            sources=next(iter(self._sources(result, found)), ()),
            filters=self._verdicts(result, found),
            dropped_by=dropped_by,
            notes=next(iter(_notes(result, "hydrators", found)), ()),
            score=self._score(result, scored),
            similarity=None if retrieved else similarity,
            last_in=() if retrieved else self._last_in(result),
            summary="",
        )
        return replace(explanation, summary=summary_of(explanation))

    def _sources(self, result: FeedResult, posts: Candidates) -> list[tuple[Brought, ...]]:
        """Those that brought each of `posts`, the one that ranked it best first."""
        brought: list[list[Brought]] = [[] for _ in range(len(posts))]
        for source in _members(result, "sources"):
            columns = (posts[column].tolist() for column in source.provides)
            for mine, rank, value in zip(brought, *columns, strict=True):
                if rank:
                    meaning = source.describe(result.query, value)
                    mine.append(Brought(source.name, rank, value, meaning))
        return [tuple(sorted(mine, key=lambda b: b.rank)) for mine in brought]

    def _verdicts(self, result: FeedResult, found: Candidates) -> tuple[Verdict, ...]:
        """On the one post of `found`, if there is one."""
        if not len(found):
            return ()
        outcomes = {t.key: t.outcome for t in result.trace}
        verdicts = []
        for component in _members(result, "filters"):
            kept = found.post_id[0] not in result.dropped[component.key]
            scalars = [n for n in component.needs if n in found and found[n].ndim == 1]
            looked_at = {name: found[name][0].item() for name in scalars}
            verdicts.append(Verdict(component.name, kept, outcomes[component.key], looked_at))
        return tuple(verdicts)

    def _score(self, result: FeedResult, found: Candidates) -> Score | None:
        """How that of the one post of `found` came about, if there is one, with all numbers."""
        score = next(iter(self._scores(result, found)), None)
        if score is None:
            return None
        scorers = _ran(result, "scorers", found)
        told = {scorer.name: scorer.numbers(found, 0) for scorer in scorers}
        return replace(score, numbers={name: numbers for name, numbers in told.items() if numbers})

    def _scores(
        self, result: FeedResult, posts: Candidates, most_terms: int | None = None
    ) -> list[Score | None]:
        """How the score of each of `posts` came about, but for `numbers`."""
        if "score" not in posts:
            return [None] * len(posts)
        basis: Literal["value", "popularity"] = "value" if "value" in posts else "popularity"
        terms = self._terms(posts, most_terms) if basis == "value" else [()] * len(posts)
        notes = _notes(result, "scorers", posts)
        names = [name for name in posts if name.endswith("_multiplier")]
        multipliers = {n.removesuffix("_multiplier"): posts[n].tolist() for n in names}
        value, base_score, score = (posts[n].tolist() for n in (basis, "base_score", "score"))
        return [
            Score(
                basis=basis,
                terms=terms[row],
                value=value[row],
                base_score=base_score[row],
                multipliers={name: values[row] for name, values in multipliers.items()},
                score=score[row],
                notes=notes[row],
            )
            for row in range(len(posts))
        ]

    def _terms(self, posts: Candidates, most: int | None) -> list[tuple[Term, ...]]:
        p_action, weight = posts["p_action"], posts["action_weight"]
        by_size = np.argsort(-np.abs(p_action * weight), axis=1, kind="stable").tolist()
        return [
            tuple(
                Term(self._actions[a], p[a], w[a])
                for a in islice(filter(w.__getitem__, order), most)
            )
            for order, p, w in zip(by_size, p_action.tolist(), weight.tolist(), strict=True)
        ]

    def _last_in(self, result: FeedResult) -> tuple[Brought, ...]:
        last = []
        for source in _members(result, "sources"):
            rank = result.retrieved[f"{source.name}_rank"]
            if rank.any():
                worst = result.retrieved.take(np.array([rank.argmax()]))
                (of_last,) = self._sources(result, worst)
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


def _ran(result: FeedResult, stage: str, posts: Candidates) -> list[Any]:
    """Members of a stage whose columns are there."""
    return [c for c in _members(result, stage) if all(name in posts for name in c.provides)]


def _notes(result: FeedResult, stage: str, posts: Candidates) -> list[tuple[str, ...]]:
    """What members of a stage say of each of `posts`."""
    ran = _ran(result, stage, posts)
    told = ([c.describe(posts, row) for c in ran] for row in range(len(posts)))
    return [tuple(note for note in notes if note is not None) for notes in told]


def _only(posts: Candidates, post_id: int) -> Candidates:
    """The one post, or none if it is not there."""
    return posts.take(np.flatnonzero(posts.post_id == post_id))


def _nth(posts: Candidates, post_id: int) -> int | None:
    row = posts.row_of(post_id)
    return None if row is None else row + 1

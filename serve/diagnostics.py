"""Answers what is known of a post, an author or a viewer from one bundle's stores.

Counts are those of the bundle, to the end of its log: what has happened since counts with the
next bundle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.diagnostics.advice import advise
from pipelines.diagnostics.answers import followers_see, small_are_throttled
from pipelines.diagnostics.not_measured import not_measured
from pipelines.diagnostics.rates import Needed, same_kind
from pipelines.diagnostics.report import Ranks, rank, report, window
from pipelines.diagnostics.tally import Tally
from pipelines.diagnostics.viewer import Viewer, Viewers, diagnose
from pipelines.facts import find
from pipelines.feed.visibility import LABELS, Kind
from serve import api
from serve import api_diagnostics as wire
from serve.stores.bundle import Stores
from serve.stores.labels import LabelStore
from serve.tallies import Tallies

Ids = NDArray[np.int64]
MOST_COMPARED = 100_000  # posts, and authors, that percentiles are among; of more, evenly spaced


class UnknownIdError(LookupError):
    """A post, author or viewer that the bundle does not have."""


@dataclass(frozen=True)
class _Among:
    """What posts, authors and viewers of the bundle are ranked among."""

    posts: Ranks
    authors: Ranks
    author_counts: Tally
    viewers: Viewers


class Diagnostics:
    """Diagnostics of one bundle; its counts are made by the first question and kept."""

    def __init__(
        self,
        stores: Stores,
        model: api.Model,
        labels: Callable[[], LabelStore],
        needed: Needed | None = None,
    ) -> None:
        """Ready to be asked, from any thread.

        Args:
            stores: tables of the bundle.
            model: names it.
            labels: those of posts and authors, as they are now.
            needed: with less, a number is unknown; None = defaults.
        """
        self._stores = stores
        self._model = model
        self._labels = labels
        self._needed = needed or Needed()
        self._lock = threading.Lock()

    def subject(self, kind: Kind, one_id: int, now_ms: int) -> wire.DiagnosticsResponse:
        """What is known of a post or an author, whose labels are those of `now_ms`.

        Raises:
            UnknownIdError: the bundle does not have it.
        """
        with self._lock:  # the first question counts for all
            tallies, among = self._tallies, self._among
        wanted = np.array([one_id])
        known = tallies.post_id if kind == "post" else tallies.author_id
        if find(wanted, known)[0] < 0:
            raise UnknownIdError(f"{kind} {one_id} is not in the bundle")
        tally = tallies.posts(wanted) if kind == "post" else tallies.authors(wanted)
        ranks = among.posts if kind == "post" else among.authors
        surfaces = tallies.surfaces(kind, one_id)
        found = report(tally, surfaces, tallies.base, ranks, among.authors, self._needed)
        author_id = one_id if kind == "author" else tallies.author_of(one_id)
        answers = () if kind == "post" else self._answers(tallies, among, one_id, tally)
        return wire.DiagnosticsResponse(
            id=one_id,
            author_id=author_id,
            model=self._model,
            shown=found.shown,
            **{
                name: [one.model_validate(each) for each in getattr(found, name)]
                for name, one in _LISTS.items()
            },
            surfaces_window=window("profiles", tallies.base),
            labels=self._labelled(kind, one_id, now_ms),
            answers=[wire.Answer.model_validate(answer) for answer in answers],
            recommendations=list(advise(found)),
            not_measured=not_measured(kind),
        )

    def viewer(self, user_id: int) -> wire.ViewerDiagnosticsResponse:
        """How well a viewer is known.

        Raises:
            UnknownIdError: the bundle has no profile of the viewer.
        """
        history = self._stores.profiles.history(user_id)
        if history is None:
            raise UnknownIdError(f"viewer {user_id} is not in the bundle")
        with self._lock:
            tallies, among = self._tallies, self._among
        mine = tallies.events.user_id == user_id
        follows = len(self._stores.graph.edges()[0]) > 0
        viewer = Viewer(
            author_id=history.author_id,
            topic=_topics(self._stores, history.post_id),
            in_network=tallies.in_network[mine].astype(np.float64) if follows else None,
            base_in_network=float(np.mean(tallies.in_network)) if len(mine) else 0.0,
            as_of_ms=self._model.as_of_ms,
        )
        found = diagnose(viewer, among.viewers, self._needed)
        return wire.ViewerDiagnosticsResponse(
            id=user_id,
            model=self._model,
            findings=[wire.Finding.model_validate(one) for one in found.findings],
            answers=[wire.Answer.model_validate(one) for one in found.answers],
            recommendations=list(found.recommendations),
            not_measured=not_measured("viewer"),
        )

    def _answers(
        self, tallies: Tallies, among: _Among, author_id: int, tally: Tally
    ) -> tuple[Any, ...]:
        return (
            followers_see(tallies.reach(author_id), self._needed),
            small_are_throttled(tally, among.author_counts),
        )

    def _labelled(self, kind: Kind, one_id: int, now_ms: int) -> list[str]:
        mask = int(self._labels().of(kind, np.array([one_id]), now_ms)[0])
        return [name for bit, name in enumerate(LABELS) if mask >> bit & 1]

    @cached_property
    def _tallies(self) -> Tallies:
        return Tallies(self._stores, self._model.as_of_ms, self._needed)

    @cached_property
    def _among(self) -> _Among:
        tallies, base, needed = self._tallies, self._tallies.base, self._needed
        author_counts = tallies.authors(_some(tallies.author_id))
        authors = rank(author_counts, base, needed)
        posts = rank(tallies.posts(_some(tallies.post_id)), base, needed, authors)
        return _Among(posts, authors, author_counts, self._viewers())

    def _viewers(self) -> Viewers:
        events = self._stores.profiles.events()
        users, user = np.unique(events["user_id"], return_inverse=True)
        num, ids = len(users), {"author": events["author_id"]}
        ids["topic"] = _topics(self._stores, events["post_id"])
        same = {}
        for kind, of in ids.items():
            known = of > 0
            enough = np.bincount(user[known], minlength=num) >= self._needed.min_events
            same[kind] = np.sort(same_kind(user[known], of[known], num)[enough])
        return Viewers(
            history_length=np.sort(np.bincount(user, minlength=num).astype(np.float64)),
            same_topic=same["topic"],
            same_author=same["author"],
        )


_LISTS: dict[str, Any] = {
    "scores": wire.Finding,
    "dimensions": wire.Finding,
    "parts": wire.Finding,
    "rates": wire.ActionRate,
    "surfaces": wire.OnSurface,
}


def _topics(stores: Stores, post_id: Ids) -> Ids:
    """First topic of each post, 0 = unknown. Shape of `post_id`."""
    return stores.facts.topic[stores.facts.post_row(post_id)][..., 0]


def _some(ids: Ids) -> Ids:
    """At most MOST_COMPARED of the sorted ids, evenly spaced."""
    return ids[:: -(-len(ids) // MOST_COMPARED) or 1]

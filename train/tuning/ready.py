"""Requests made ready: everything up to the scorers done once, so that a trial only orders posts.

A trial's feed runs the very scorers, selector and page rules of `pipelines.feed` on what is kept
here; the models' answers come from memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from pipelines.feed.discover import FeedConfig, build_components
from pipelines.feed.replay import services_of
from pipelines.feed.run import Run
from pipelines.feed.services import Blend, Interference, Services, Space
from pipelines.feed.stages import Component, FeedQuery
from pipelines.feed.table import Candidates
from pipelines.feed.variants import changed
from pipelines.feed.waves import Stages, waves
from pipelines.schema import ACTION_NAMES
from train.models.fractal.liked import signs
from train.tuning.blended import STAGES, Blended
from train.tuning.fields import Fields, PostVectors
from train.tuning.measures import Judge, Outcomes, outcomes
from train.tuning.replayed import ModelsThen, Replayed, with_logged
from train.tuning.settings import BlendSearch
from train.tuning.visits import Visit

Ids = NDArray[np.int64]
_PATIENT_MS = 600_000  # an offline feed waits: on a busy machine a time-out would change results


@dataclass(frozen=True)
class Ready:
    """One request before its scorers.

    Attributes:
        query: with its context.
        posts: candidates that passed the filters, with what is known of them.
        own: what the bundle says that actions are worth.
        p_action: as the ranker predicts it; None for viewers without a history. float32 [C, A].
    """

    query: FeedQuery
    posts: Candidates
    own: Blend
    p_action: NDArray[np.float32] | None


@dataclass(frozen=True)
class Requests:
    """Ready requests, judges of their pages, and the vectors that scorers may ask for."""

    ready: Sequence[Ready]
    judges: Sequence[Judge]
    vectors: Mapping[str, PostVectors]

    @property
    def viewer(self) -> Ids:
        """Who asks each. int64 [R]."""
        return np.array([each.query.user_id for each in self.ready])


def stages_of(feed: FeedConfig, settings: Mapping[str, Any] | None = None) -> Stages:
    """A feed of logged visits with some settings changed; its components wait as long as it takes.

    Raises:
        ConfigError, WiringError: as `Pipeline.build`.
    """
    named = feed.model_copy(
        update={
            "sources": {**feed.sources, "logged": {}},
            "filters": {**feed.filters, "written_later": {}},
        }
    )
    made = build_components(changed(named, settings or {}), with_logged())
    return waves([_patient(component) for component in made])


def make_ready(
    visits: Sequence[Visit], search: BlendSearch, feed: FeedConfig, models: ModelsThen
) -> list[tuple[Ready, Outcomes]]:
    """Run the feed of each visit up to the scorers.

    Raises:
        RuntimeError: a component failed.
    """
    stages, beside = stages_of(feed), services_of(search.services, search.bundle)
    made = []
    for visit in track(visits, description="Requests made ready", transient=True):
        services = cast(Services, Replayed(visit, models, beside))
        ready = asyncio.run(_ready(visit, stages, services, search.num_candidates))
        made.append((ready, _outcomes(ready, visit, models, search)))
    return made


def with_judges(
    made: Sequence[tuple[Ready, Outcomes]], scale: NDArray[np.float64], models: ModelsThen
) -> Requests:
    """The requests with all that trials need.

    Args:
        made: by `make_ready`.
        scale: as of `measures.calibration`, of the visits tuned on.
        models: whose vectors.
    """
    worth = models.bundle.weights, models.learned
    judges = [Judge.of(r.posts.post_id, known, scale, *worth) for r, known in made]
    posts = [r.posts.post_id for r, _ in made]
    posts += [r.posts["repost_of_post_id"] for r, _ in made if "repost_of_post_id" in r.posts]
    posts += [h.post_id for r, _ in made if (h := r.query.context.get("history")) is not None]
    asked = np.unique(np.concatenate(posts))
    spaces = [s for s in get_args(Space) if s != "prefix" or models.bundle.has_prefix]
    vectors: dict[str, PostVectors] = {space: models.vectors(asked, space) for space in spaces}
    return Requests([ready for ready, _ in made], judges, vectors)


class Answers:
    """The part of `pipelines.feed.services.Services` that scorers ask, for one trial's request."""

    def __init__(
        self, ready: Ready, blended: Blended, content: PostVectors, fields: Fields
    ) -> None:
        """Answer for `ready` as a bundle with `blended` would."""
        self._ready, self._blended = ready, blended
        self._content, self._fields = content, fields

    async def blend(self) -> Blend:
        """As a bundle with these weights says."""
        weights = self._blended.weights
        return replace(self._ready.own, own=weights, weights=weights)

    async def rank(
        self, history: Any, post_id: Ids, author_id: Ids, surface: int, at_ms: int
    ) -> NDArray[np.float32]:
        """What was predicted."""
        assert self._ready.p_action is not None
        assert len(post_id) == len(self._ready.p_action)
        return self._ready.p_action

    async def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """By these weights."""
        return p_action @ self._blended.weights

    async def vectors(self, post_id: Ids) -> NDArray[np.float32]:
        """From memory."""
        return self._content.of(post_id)

    async def interference(
        self,
        history: Any,
        post_id: Ids,
        space: Space | None,
        scale_weights: tuple[float, ...] | None,
    ) -> Interference:
        """From memory, where the field was computed before."""
        blend = self._blended.interference
        if space is not None:
            blend = blend.model_copy(update={"space": space})
        blend = blend.model_copy(update={"field": blend.field.weighing(scale_weights)})
        name, sign = self._ready.query.request_id, signs(self._blended.weights)
        found = self._fields.of(name, history, post_id, blend, sign)
        return found.told(blend.field, blend.alpha)


async def _ready(visit: Visit, stages: Stages, services: Services, most: int) -> Ready:
    run = Run(stages, visit.query, services, Candidates.empty())
    await run.hydrate_query()
    await run.find()
    await run.hydrate()
    run.filter()
    check_whole(run)
    posts, p_action = _needed(first_found(run.posts, most), stages), None
    history = run.query.context.get("history")
    if history is not None and len(posts):
        asked = posts.post_id, posts["author_id"], run.query.surface, run.query.now_ms
        p_action = await services.rank(history, *asked)
    return Ready(run.query, posts, await services.blend(), p_action)


def first_found(posts: Candidates, most: int) -> Candidates:
    """At most so many, in their order: those shown, then those that a source ranks highest."""
    if len(posts) <= most:
        return posts
    best = np.full(len(posts), np.iinfo(np.int64).max)
    for name, rank in posts.items():
        if name.endswith("_rank"):
            best = np.where(rank > 0, np.minimum(best, rank), best)
    best[posts["logged_rank"] > 0] = 0
    return posts.take(np.sort(np.argsort(best, kind="stable")[:most]))


def _needed(posts: Candidates, stages: Stages) -> Candidates:
    """The columns that something after the filters may read, and those that pages are judged by."""
    later = [c for stage in STAGES for wave in stages[stage] for c in wave]
    asked = {"post_id", "author_id", "topic_ids"}.union(*((*c.needs, *c.wants) for c in later))
    names = [name for name in posts if any(fnmatchcase(name, one) for one in asked)]
    return Candidates({name: posts[name] for name in names})


def check_whole(run: Run) -> None:
    """Refuse what was made without one of its components.

    Raises:
        RuntimeError: one failed.
    """
    if run.failed:
        errors = {trace.key: trace.error for trace in run.trace if trace.error}
        raise RuntimeError(f"{run.query.request_id}: {errors.get(run.failed[0], run.failed[0])}")


def _outcomes(ready: Ready, visit: Visit, models: ModelsThen, search: BlendSearch) -> Outcomes:
    num, width = len(ready.posts), len(models.bundle.actions)
    predicted = np.full((num, width), np.nan)
    if ready.p_action is not None:
        predicted = ready.p_action.astype(np.float64)
    shown = visit.post_id, visit.did, visit.observed, visit.dwell_s
    action = ACTION_NAMES.index(search.relevant)
    return outcomes(ready.posts.post_id, predicted, shown, action, models.dwell_cap_s)


def _patient(component: Component) -> Component:
    names = [field.name for field in fields(component)]  # type: ignore[arg-type]
    if "timeout_ms" not in names:
        return component
    return replace(component, timeout_ms=_PATIENT_MS)  # type: ignore[type-var]

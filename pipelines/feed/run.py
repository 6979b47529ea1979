"""One request on its way through the stages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.checks import columns_of, context_of, rows_of, table_of, verdicts
from pipelines.feed.result import FeedResult, Outcome, Trace
from pipelines.feed.services import Hits, Services
from pipelines.feed.stages import Component, FeedQuery, with_context
from pipelines.feed.table import Candidates
from pipelines.feed.waves import Stages, Wave, members

_NOTHING = Hits(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass
class Attempt:
    """How a component's turn went.

    Attributes:
        value: what it returned, checked; None unless the outcome is "ok".
        cause: key of the component whose failure is to blame, its own or one
            that it needs; None where nothing failed.
    """

    component: Any
    outcome: Outcome
    value: Any = None
    ms: float = 0.0
    error: str | None = None
    cause: str | None = None

    @property
    def closes(self) -> bool:
        """Whether this leaves no posts."""
        return self.cause is not None and self.component.fails == "closed"


class Run:
    """State of one request: each stage replaces `query` or `posts`, and all leave a trace."""

    def __init__(
        self,
        stages: Stages,
        query: FeedQuery,
        services: Services,
        posts: Candidates,
    ) -> None:
        """Start with `posts`, empty unless only side effects are to run."""
        self.stages, self.query, self.services, self.posts = stages, query, services, posts
        self.trace: list[Trace] = []
        self.failed: list[str] = []  # keys, in order, one each time
        self.dropped: dict[str, NDArray[np.int64]] = {}
        self.closed = False  # a component that fails closed has failed
        self._causes: dict[str, str | None] = {}  # column that is not there -> whose failure

    async def feed(self, arms: Mapping[str, str]) -> FeedResult:
        """Run all stages but the side effects, for a viewer in `arms` of experiments."""
        await self.hydrate_query()
        await self.find()
        await self.hydrate()
        retrieved = self.posts
        self.filter()
        await self.score()
        scored = self.posts
        self.select()
        ranked = self.posts
        self.fill_page()
        return FeedResult(
            page=self.posts,
            query=self.query,
            retrieved=retrieved,
            scored=scored,
            ranked=ranked,
            trace=tuple(self.trace),
            degraded=tuple(dict.fromkeys(self.failed)),
            dropped=self.dropped,
            components=tuple(members(self.stages)),
            arms=arms,
        )

    async def hydrate_query(self) -> None:
        """Fill the query's context."""

        async def work(component: Any) -> Mapping[str, Any]:
            return context_of(component, await component.hydrate(self.query, self.services))

        for wave in self.stages["query_hydrators"]:
            for attempt in await self._together(wave, work):
                if attempt.outcome == "ok":
                    self.query = with_context(self.query, attempt.value)
                self._note(attempt, num_in=0, num_out=0)

    async def find(self) -> None:
        """Ask all sources and merge what they bring; one that fails has brought nothing.

        Where there is a zoom and nothing is near, those that stood back make the usual page.
        """
        tables = await self._ask()
        if self.query.zooms and not any(map(len, tables.values())):
            self.trace = [t for t in self.trace if (t.stage, t.outcome) != ("sources", "skipped")]
            self.query = replace(self.query, zoom=None)
            tables |= await self._ask()
        self.posts = Candidates.merge(list(tables.values()))
        self._close()

    async def _ask(self) -> dict[str, Candidates]:
        """What each source brings that has not had its turn, by its name."""
        done = {one.name for one in self.trace if one.stage == "sources"}

        async def work(component: Any) -> tuple[Candidates, tuple[str, ...]]:
            hits = await component.find(self.query, self.services)
            return table_of(component, hits), hits.missing

        tables = {}
        for wave in self.stages["sources"]:
            left = tuple(component for component in wave if component.name not in done)
            for attempt in await self._together(left, work):
                nothing = table_of(attempt.component, _NOTHING), ()
                found, missing = attempt.value or nothing
                if missing:
                    attempt.outcome, attempt.error = "partial", f"without {', '.join(missing)}"
                tables[attempt.component.name] = found
                self._note(attempt, num_in=0, num_out=len(found))
        return tables

    async def hydrate(self) -> None:
        """Add what is known of the posts."""

        async def work(component: Any) -> Mapping[str, NDArray]:
            columns = await component.hydrate(self.query, self.posts, self.services)
            return columns_of(component, columns, len(self.posts))

        await self._add_columns("hydrators", work)

    async def score(self) -> None:
        """Add predictions, values and multipliers."""

        async def work(component: Any) -> Mapping[str, NDArray]:
            columns = await component.score(self.query, self.posts, self.services)
            return columns_of(component, columns, len(self.posts))

        await self._add_columns("scorers", work)

    def filter(self) -> None:
        """Ask every filter about every post; a post stays if all keep it."""
        posts = self.posts
        kept = np.ones(len(posts), np.bool_)
        for component in self._members("filters"):
            keep = self._judge(component, posts)
            self.dropped[component.key] = posts.post_id[~keep]
            kept &= keep
        self.posts = posts.filter(kept)
        self._close()

    def select(self) -> None:
        """Put the posts in order."""
        posts = self.posts
        (selector,) = self._members("selectors")
        attempt = self._now(selector, lambda: rows_of(posts, selector.select(self.query, posts)))
        if attempt.outcome == "ok":
            self.posts = posts.take(attempt.value)
        self._note(attempt, num_in=len(posts), num_out=len(self.posts))
        self._close()

    def fill_page(self) -> None:
        """Take the best posts; as long as a rule drops some, the next best take their places."""
        rows, limit = np.arange(len(self.posts)), self.query.limit
        settled = False
        while not settled:
            page = kept = rows[:limit]
            posts = self.posts.take(kept)
            for component in self._members("post_filters"):
                keep = self._judge(component, posts)
                before = self.dropped.get(component.key, posts.post_id[:0])
                self.dropped[component.key] = np.concatenate([before, posts.post_id[~keep]])
                kept, posts = kept[keep], posts.filter(keep)
            rows = np.concatenate([kept, rows[limit:]])
            settled = len(kept) == len(page) or self.closed
        self.posts = self.posts.take(rows[:limit])
        self._close()

    async def side_effects(self, result: FeedResult) -> tuple[Trace, ...]:
        """Run what happens after the reply that `result` was."""

        async def work(component: Any) -> None:
            posts = result.pool if component.whole_pool else self.posts
            await component.run(self.query, posts, self.services)

        for wave in self.stages["side_effects"]:
            for attempt in await self._together(wave, work):
                num = len(result.scored if attempt.component.whole_pool else self.posts)
                self._note(attempt, num, num)
        return tuple(self.trace)

    async def _add_columns(
        self, stage: str, work: Callable[[Any], Awaitable[Mapping[str, NDArray]]]
    ) -> None:
        for wave in self.stages[stage]:
            for attempt in await self._together(wave, work):
                if attempt.outcome == "ok":
                    self.posts = self.posts.with_columns(attempt.value)
                self._note(attempt, len(self.posts), len(self.posts))
            self._close()

    def _judge(self, component: Any, posts: Candidates) -> NDArray[np.bool_]:
        """Verdicts of a filter or page rule, or what its failure means for all posts."""
        attempt = self._now(
            component, lambda: verdicts(component.keep(self.query, posts), len(posts))
        )
        keep = attempt.value
        if keep is None:
            keep = np.full(len(posts), not attempt.closes)
        self._note(attempt, num_in=len(posts), num_out=int(keep.sum()))
        return keep

    async def _together(
        self, wave: Wave, work: Callable[[Any], Awaitable[Any]]
    ) -> Sequence[Attempt]:
        """Give each of `wave` its turn, side by side, within its own time-out."""

        async def turn(component: Any) -> Attempt:
            started = time.perf_counter()
            try:
                if skipped := self._skip(component):
                    return skipped
                async with asyncio.timeout(component.timeout_ms / 1000):
                    value = await work(component)
            except Exception as error:  # whatever it raises, the other components go on
                return _failure(component, error, started)
            return Attempt(component, "ok", value, _ms_since(started))

        if len(wave) == 1:
            return [await turn(wave[0])]
        return await asyncio.gather(*map(turn, wave))

    def _now(self, component: Component, work: Callable[[], Any]) -> Attempt:
        """Give a component that never waits its turn."""
        started = time.perf_counter()
        try:
            if skipped := self._skip(component):
                return skipped
            value = work()
        except Exception as error:  # as above
            return _failure(component, error, started)
        return Attempt(component, "ok", value, _ms_since(started))

    def _skip(self, component: Any) -> Attempt | None:
        """Why `component` has no turn: nothing to do, not for this query, or a need is not met."""
        if component.stage not in ("query_hydrators", "sources") and not len(self.posts):
            return Attempt(component, "skipped")
        for need in component.needs:
            part = need.removeprefix("query.")
            there = part in self.query.context if part != need else need in self.posts
            if not there:
                cause = self._causes.get(need)
                error = cause and f"needs {need!r}, which {cause} failed to provide"
                return Attempt(component, "skipped", error=error, cause=cause)
        optional = component.stage in ("sources", "scorers", "side_effects")
        if optional and not component.enabled(self.query):
            return Attempt(component, "skipped")
        if component.stage == "sources" and (
            (self.query.from_cache and not component.beside_cache)
            or (self.query.zooms and not component.zooms)
        ):
            return Attempt(component, "skipped")
        return None

    def _note(self, attempt: Attempt, num_in: int, num_out: int) -> None:
        """Write the trace and draw the consequences of a failure."""
        component = attempt.component
        entry = (attempt.ms, attempt.outcome, attempt.error)
        self.trace.append(Trace(component.stage, component.name, num_in, num_out, *entry))
        if attempt.outcome not in ("ok", "partial"):
            self._causes |= dict.fromkeys(component.provides, attempt.cause)
        if attempt.outcome in ("partial", "failed", "timeout"):
            self.failed.append(component.key)
        self.closed |= attempt.closes

    def _close(self) -> None:
        """Drop all posts if a component that fails closed has failed."""
        if self.closed:
            self.posts = self.posts.take(slice(0))

    def _members(self, stage: str) -> Sequence[Any]:
        return [component for wave in self.stages[stage] for component in wave]


def _failure(component: Component, error: Exception, started: float) -> Attempt:
    outcome: Outcome = "timeout" if isinstance(error, TimeoutError) else "failed"
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return Attempt(component, outcome, None, _ms_since(started), text, cause=component.key)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000

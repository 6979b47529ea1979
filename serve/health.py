"""How a replica is: asks everything that it serves with, and names what is not well."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pipelines.feed.pipeline import Pipeline
from serve import api_health
from serve.live.events import LiveEvents
from serve.requests import TIMELINE
from serve.serving import Serving
from serve.stores.event_log import EventLog
from serve.stores.watched import Watched

Status = Literal["ok", "stale", "unlogged", "partial", "behind"]
_WORST_FIRST: tuple[Status, ...] = ("stale", "unlogged", "partial", "behind", "ok")
Found = tuple[Status, str]  # what is wrong, and that in words


class HealthCheck:
    """Asks the parts of one replica how they are; they answer as `api_health.Health` says."""

    def __init__(
        self,
        feeds: Mapping[str, Pipeline],
        files: Sequence[Watched[Any]],
        logs: Mapping[str, EventLog | None],
        events: LiveEvents | None,
    ) -> None:
        """Ask nothing yet.

        Args:
            feeds: by name.
            files: what is read again when it changes.
            logs: what is written -> where to, None = nowhere.
            events: None = no events are taken.
        """
        self._feeds, self._files, self._logs, self._events = feeds, files, logs, events

    async def report(
        self, serving: Serving, in_flight: int, refused: str | None
    ) -> api_health.Health:
        """What is being served, here and by the models.

        Args:
            serving: from the bundle in use.
            in_flight: requests being answered.
            refused: why a newer bundle is not in use.
        """
        versions, held_up = await asyncio.gather(
            serving.models.versions(), serving.models.problems()
        )
        following = self._events.status if self._events else None
        found = list(self._found(serving.model.version, refused, versions, following, held_up))
        found += [
            ("partial", f"{name} does not answer: its posts are not found")
            for name in serving.models.parts
            if not versions[name]
        ]
        status: Status = min((worse for worse, _ in found), key=_WORST_FIRST.index, default="ok")
        return api_health.Health(
            status=status,
            model=serving.model,
            versions={name: list(theirs) for name, theirs in versions.items()},
            in_flight=in_flight,
            events=following,
            failures={
                key if name == TIMELINE else f"{name}/{key}": num
                for name, feed in self._feeds.items()
                for key, num in feed.failures.items()
            },
            problem="; ".join(words for _, words in found) or None,
        )

    def _found(
        self,
        mine: str,
        refused: str | None,
        versions: Mapping[str, Sequence[str]],
        following: api_health.Following | None,
        held_up: Mapping[str, Sequence[str]],
    ) -> Iterator[Found]:
        """All that is wrong; `mine` is the version of the bundle in use here."""
        if refused:
            yield "stale", refused
        for name, theirs in versions.items():
            if others := sorted(set(theirs) - {mine}):
                told = f"{name} serves bundle version {', '.join(others)}, FeedHandler {mine}"
                yield "stale", told
        for file in self._files:
            if file.problem:
                yield "stale", file.problem
        if following and (following.problem or not following.caught_up):
            still = "events from before the start are still being read"
            yield "behind", following.problem or still
        for name, theirs in held_up.items():
            if theirs:
                yield "behind", f"{name}: {'; '.join(sorted(set(theirs)))}"
        if self._events and (problem := self._events.snapshot_problem):
            yield "behind", problem
        for what, log in self._logs.items():
            if log is not None and log.problem:
                yield "unlogged", f"{log.problem} ({log.num_lost} {what} lost so far)"

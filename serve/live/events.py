"""The journal in a replica that serves: the way in, and all that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from serve import api_events, api_health
from serve.live import snapshots
from serve.live.following import Follow, Following, LiveSettings
from serve.live.intake import Intake
from serve.live.journal import Journal
from serve.live.messages import View
from serve.live.snapshot_file import PARTS
from serve.live.snapshots import Snapshots, Start
from serve.live.state import LiveState
from serve.live.viewers import ViewerActions
from serve.stores.viewers import ViewerStore


class LiveEvents:
    """Writes what happens to a journal, and keeps up with what others wrote."""

    def __init__(
        self,
        journal: Journal,
        state: LiveState,
        settings: LiveSettings,
        now_ms: Callable[[], int],
        max_ahead_s: float,
    ) -> None:
        """Nothing is read or followed yet.

        Args:
            journal: closed with this.
            state: what the replica keeps in memory of it.
            settings: how to follow it.
            now_ms: what time it is; ms since 1970.
            max_ahead_s: as `Intake` takes it.
        """
        self._journal, self._state, self._settings = journal, state, settings
        self._intake = Intake(journal, now_ms, max_ahead_s)
        self._snapshots = Snapshots(settings.snapshots, state.freeze, journal)
        self._start: Start | None = None
        self._following: Following | None = None

    def begin(self, as_of_ms: int) -> None:
        """Let the state know what the last snapshot does, before the first bundle; once.

        Args:
            as_of_ms: the newest event that the bundle knows.
        """
        if self._start is None:
            self._start = snapshots.start(
                self._settings.snapshots,
                self._journal,
                PARTS,
                partial(self._state.restore, as_of_ms=as_of_ms),
                self._state.recent.settings,
            )

    async def take(self, events: Sequence[Any]) -> api_events.EventsResponse:
        """As `Intake.take`."""
        return await self._intake.take(events)

    async def follow(self, beside: Sequence[View], viewers: ViewerStore) -> None:
        """Begin to follow the journal; returns once all that was there is known.

        Or after `ready_timeout_s`, when `status` says what is missing. Called once, after a bundle
        is in use, on the event loop that `viewers` are used on.

        Args:
            beside: views in memory beside the state.
            viewers: where what viewers do goes.
        """
        settings = self._settings
        training = await asyncio.to_thread(settings.training)  # reads what was written before
        self._following = Following(
            self._journal,
            {
                "memory": Follow(
                    [self._state, *beside],
                    start=self._start,
                    checkpoint=self._snapshots.checkpoint,
                ),
                "viewers": Follow(
                    [ViewerActions(viewers, asyncio.get_running_loop())],
                    "viewers" if viewers.shared else None,
                ),
                "training-log": training,
            },
            settings.dead_letters,
        )
        await asyncio.to_thread(self._following.wait, settings.ready_timeout_s)

    @property
    def status(self) -> api_health.Following | None:
        """How far the followers are; None before `follow`."""
        return self._following.status() if self._following else None

    @property
    def snapshot_problem(self) -> str | None:
        """As `Snapshots.problem`."""
        return self._snapshots.problem

    def close(self) -> None:
        """Stop to follow, finish a snapshot and close the journal; not on the event loop."""
        if self._following:
            self._following.close()
        self._snapshots.close()
        self._journal.close()

"""All that follows one journal in a replica: its memory, shared stores, the training log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import PositiveFloat

from configs import Config
from serve import api_health
from serve.live.follower import Checkpoint, Follower, FollowerSettings
from serve.live.journal import Journal
from serve.live.messages import View
from serve.live.snapshots import SnapshotSettings, Start
from serve.live.state import StateSettings
from serve.live.training_log import TrainingLog

_LOOK_S = 0.02  # between looks whether followers have caught up


@dataclass(frozen=True)
class Follow:
    """Views that are kept up to date together, each message read once for all.

    Attributes:
        group: replicas that share the views, and so the work; None = each has its own.
        settings: how to read.
        start: from where on, without a group.
        checkpoint: as `Follower` takes it.
    """

    views: Sequence[View]
    group: str | None = None
    settings: FollowerSettings | None = None
    start: Start | None = None
    checkpoint: Checkpoint | None = None


class LiveSettings(Config):
    """How a replica follows the journal."""

    training_log: str = "artifacts/live"  # folder of what happened, for the next models
    training_log_max_age_s: PositiveFloat = 60.0  # how long events wait for more of their file
    dead_letters: str = "artifacts/live/dead_letters"  # folder of what cannot be read
    ready_timeout_s: PositiveFloat = 60.0  # then it serves with what it knows, and says so
    snapshots: SnapshotSettings = SnapshotSettings()  # to start from, instead of the whole journal
    state: StateSettings = StateSettings()  # how much is kept in memory

    def training(self) -> Follow:
        """The training log, which replicas write together."""
        log = TrainingLog(self.training_log)
        return Follow([log], "training-log", FollowerSettings(gather_s=self.training_log_max_age_s))


class Following:
    """One follower for each store, so that none waits for another."""

    def __init__(
        self, journal: Journal, follows: Mapping[str, Follow], dead_letters: str | Path
    ) -> None:
        """Start to follow.

        Args:
            journal: where from.
            follows: by name, which errors and file names hold.
            dead_letters: folder for messages that cannot be read.
        """
        starts = [follow.start.told for follow in follows.values() if follow.start]
        self._started_from = starts[0] if starts else None
        self._own = {name for name, follow in follows.items() if follow.group is None}
        self._followers = {
            name: Follower(
                journal,
                follow.views,
                group=follow.group,
                dead_letters=str(Path(dead_letters) / f"{name}.jsonl"),
                settings=follow.settings,
                after=follow.start.after if follow.start else None,
                seen=follow.start.seen if follow.start else None,
                checkpoint=follow.checkpoint,
                name=f"follower-{name}",
            )
            for name, follow in follows.items()
        }

    def wait(self, timeout_s: float) -> bool:
        """Until this replica's own views know all that was written before; whether they do."""
        deadline = time.monotonic() + timeout_s
        while not self.caught_up:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    @property
    def caught_up(self) -> bool:
        """Whether this replica's own views know all that was written before it began."""
        return all(self._followers[name].caught_up for name in self._own)

    def status(self) -> api_health.Following:
        """How far they are, and what holds them up."""
        problems = [
            f"{name}: {follower.problem}"
            for name, follower in self._followers.items()
            if follower.problem
        ]
        return api_health.Following(
            caught_up=self.caught_up,
            lag={name: follower.lag for name, follower in self._followers.items()},
            applied={name: follower.num_applied for name, follower in self._followers.items()},
            started_from=self._started_from,
            unreadable=max((f.num_poison for f in self._followers.values()), default=0),
            problem="; ".join(problems) or None,
        )

    def close(self) -> None:
        """Stop all; what a group has not committed comes again to the next of it."""
        for follower in self._followers.values():
            follower.close()

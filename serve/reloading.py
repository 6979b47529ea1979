"""Replicas that serve from one bundle until they are told of another, and learn of new posts."""

import asyncio
import logging
from typing import Any

import torch
from ray import serve

from configs import Config, check
from serve.live.follower import Follower
from serve.live.journals import open_journal
from serve.models import version
from serve.new_posts import Knows, NewPosts, caught_up
from serve.settings import Args, absolute, on_disk
from train import bundle as bundles

_log = logging.getLogger("ray.serve")


class BundleChoice(Config):
    """`user_config` of every deployment: changing it reloads without a restart."""

    bundle: str


class Reloading:
    """A replica that serves from one bundle until `user_config` names another.

    The new bundle is loaded beside the one being served, then swapped in at once. One
    that cannot be loaded stops a replica that has none yet; a replica that serves goes
    on with what it has and says so, since failing would take the whole feed down.
    """

    _version: str | None = None  # of the bundle being served

    def __init__(self, torch_threads: int) -> None:
        torch.set_num_threads(torch_threads)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve at start and whenever `user_config` changes.

        Raises:
            ConfigError, BundleError: the first bundle cannot be loaded.
        """
        try:
            choice = check(user_config, BundleChoice, place="user_config")
            bundle = await asyncio.to_thread(bundles.load, absolute(choice.bundle))
            await asyncio.to_thread(self.use, bundle)
        except Exception as error:  # a broken file may raise anything
            if self._version is None:
                raise
            _log.error("still serving the bundle before: %s", error)
            self.refused(str(error))
        else:
            self._version = version(bundle)

    async def version(self) -> str | None:
        """As `models.version`, of the bundle being served."""
        return self._version

    def use(self, bundle: bundles.Bundle) -> None:
        """Make what serves from `bundle`, then swap it in; on a thread of its own."""
        raise NotImplementedError

    def refused(self, problem: str) -> None:
        """Take note that a newer bundle could not be loaded."""


class NewPostsOf:
    """What one replica's models learn of posts that were told since the bundle was made."""

    def __init__(self, args: Args, name: str) -> None:
        """Begin to gather them: from a snapshot, then from the journal."""
        self._posts, journal = NewPosts(args.new_posts), open_journal(on_disk(args.journal))
        replica_id = serve.get_replica_context().replica_id.unique_id
        start = self._posts.begin(on_disk(args.live.snapshots, "directory"), journal)
        self._follower = Follower(
            journal,
            [self._posts],
            topics=("posts",),
            after=start.after,
            seen=start.seen,
            dead_letters=f"{absolute(args.live.dead_letters)}/{name}-{replica_id}.jsonl",
            name=f"follower-{name}",
        )

    def use(self, bundle: bundles.Bundle, *models: Knows) -> None:
        """As `NewPosts.use`."""
        self._posts.use(bundle, *models)

    def wait(self, timeout_s: float) -> bool:
        """Until the models know what was told before the start; whether they do in time."""
        return caught_up(self._follower, self._posts, timeout_s)

    @property
    def problem(self) -> str | None:
        """What keeps the models from knowing all that was told; None = nothing."""
        behind = None if self._follower.caught_up else "posts from before the start are being read"
        return (
            "; ".join(filter(None, (self._follower.problem or behind, self._posts.problem))) or None
        )


class LearningReplica(Reloading):
    """A replica whose model learns of new posts: ready once it knows those told before."""

    def __init__(self, args: Args, name: str) -> None:
        super().__init__(args.torch_threads)
        self._new_posts = NewPostsOf(args, name)
        self._ready_timeout_s = args.live.ready_timeout_s

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """As for other replicas; at start it first waits, as long as settings allow."""
        first = self._version is None
        await super().reconfigure(user_config)
        if first and not await asyncio.to_thread(self._new_posts.wait, self._ready_timeout_s):
            _log.warning("serves, though it does not know all new posts: %s", await self.problem())

    async def problem(self) -> str | None:
        """What keeps it from knowing all posts; None = nothing."""
        return self._new_posts.problem

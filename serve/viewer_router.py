"""Sends a viewer's requests to the replica that keeps what was computed of them.

Named in a Serve config file (`request_router_config`) of a deployment that is called with
`session_id`, the viewer. Serve copies this module to whoever holds a handle: it imports nothing of
the project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

# Serve's usual router; `ray.serve.request_router` has its parts alone.
from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest, RunningReplica

# Requests that a viewer's replica may have more than another one: to wait for so many takes longer
# than to compute anew what it keeps, unless the ranker is large.
MOST_AHEAD = 4


def home(viewer: str, in_flight: Mapping[str, int], most_ahead: int = MOST_AHEAD) -> str | None:
    """The replica of a viewer, the same whoever asks; None = any, theirs has too much to do.

    Rendezvous hashing (Thaler and Ravishankar 1998): the replica whose hash with the viewer is the
    highest. So one that goes takes away its own viewers alone, and one that comes takes an equal
    share from each of the others and gives it back when it goes.

    Args:
        viewer: "" = nobody, who is at home nowhere.
        in_flight: requests at each replica, by its id.
        most_ahead: requests that theirs may have more than the replica with the fewest.
    """
    if not viewer or not in_flight:
        return None
    mine = max(in_flight, key=lambda replica: _weight(viewer, replica))
    return mine if in_flight[mine] <= min(in_flight.values()) + most_ahead else None


class ViewerRouter(PowerOfTwoChoicesRequestRouter):
    """The viewer's replica first; Serve's usual choice if that is busy, full or does not answer."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Whom to try, one after the other."""
        usual = await super().choose_replicas(candidate_replicas, pending_request)
        viewer = pending_request.metadata.session_id if pending_request else ""
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        known = self.replica_queue_len_cache
        in_flight = {key: known.get(r.replica_id) or 0 for key, r in replicas.items()}
        mine = home(viewer, in_flight)
        return usual if mine is None else [[replicas[mine]], *usual]

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> Any:
        """The request that a replica was chosen for: without this it would go to the oldest one.

        Not by the id, which all calls share that one HTTP request makes.
        """
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                return pending
        return None  # cancelled meanwhile: the oldest it is


def _weight(viewer: str, replica: str) -> bytes:
    return hashlib.blake2b(f"{viewer}/{replica}".encode(), digest_size=8).digest()

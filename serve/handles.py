"""Models behind Ray handles: how to call them, and to ask replicas what they serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from functools import partial

from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from serve.models import Models, Ranking

_log = logging.getLogger("ray.serve")
_TIMEOUT_S = 1.0  # of what replicas are asked of themselves
_BETWEEN_S = 0.2  # from asking for versions to asking again


async def _ask(what: str, handle: DeploymentHandle) -> list[str]:
    """The text that each replica answers, in time, when its method `what` is called."""
    try:
        answers = await handle.broadcast(what).results_async(
            timeout_s=_TIMEOUT_S, return_exceptions=True
        )
    except Exception as error:  # no replica, or a slow one: others say so, see `failures`
        _log.warning("%s does not tell its %s: %r", handle, what, error)
        return []
    return [answer for answer in answers if isinstance(answer, str)]


async def _ask_all(what: str, handles: Mapping[str, DeploymentHandle]) -> dict[str, list[str]]:
    asked = [_ask(what, handle) for handle in handles.values()]
    return dict(zip(handles, await asyncio.gather(*asked), strict=True))


async def serving(wanted: str, handles: Mapping[str, DeploymentHandle], timeout_s: float) -> None:
    """Wait until all replicas serve the bundle of this version; not for ever."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        versions = await _ask_all("version", handles)
        if all(set(theirs) == {wanted} for theirs in versions.values()):
            return
        await asyncio.sleep(_BETWEEN_S)
    _log.warning("goes on with bundle version %s, though not all shards have it", wanted)


def behind(
    retriever: DeploymentHandle,
    ranker: DeploymentHandle,
    scorer: DeploymentHandle,
    *shards: DeploymentHandle,
) -> Models:
    """The models of these deployments; handles may be touched on the event loop only."""
    of_viewer = ranker.rank

    def rank(ranking: Ranking) -> Awaitable[NDArray]:
        viewer = str(ranking.history.user_id)  # whose context one of the replicas keeps
        return of_viewer.options(session_id=viewer).remote(ranking)

    parts = {handle.deployment_name: handle for handle in shards}
    deployments = {"Retriever": retriever, "Ranker": ranker, "Scorer": scorer, **parts}
    return Models(
        search=retriever.search.remote,
        rank=rank,
        value=scorer.value.remote,
        versions=partial(_ask_all, "version", deployments),
        similarity=retriever.similarity.remote,
        problems=partial(_ask_all, "problem", deployments),
        near=retriever.near.remote,
        interference=scorer.interference.remote,
        parts=tuple(parts),
    )

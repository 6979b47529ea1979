"""The wire format of a replica's health, nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from serve.api import Model


class Following(BaseModel):
    """How far a replica is with what happened; see serve.live.following."""

    caught_up: bool = Field(
        description="whether it knew all that had been written when it started; stays so"
    )
    lag: dict[str, int | None] = Field(
        description="events written and not read yet, by who reads; null = not known"
    )
    applied: dict[str, int] = Field(description="events read since the start")
    started_from: str | None = Field(
        default=None, description="a snapshot, or the whole journal and why that"
    )
    unreadable: int = Field(description="messages put aside because they cannot be read")
    problem: str | None = Field(description="what holds it up")


class Health(BaseModel):
    """What a replica is serving."""

    status: Literal["ok", "stale", "unlogged", "partial", "behind"] = Field(
        description="stale: a newer bundle could not be loaded, by this replica or by one of "
        "the models', or a newer file of labels or preferences; all go on with the one before; "
        "unlogged: impressions or audits cannot be written; partial: a shard of the index does "
        "not answer, so its posts are not found; behind: what happened is not all "
        "known, or cannot be read"
    )
    model: Model
    versions: dict[str, list[str]] = Field(
        description="bundle version of each replica of the models' deployments that answered "
        "within a second; empty where the models are in this replica"
    )
    in_flight: int = Field(description="requests being answered by this replica")
    failures: dict[str, int] = Field(description="failures since start, by component")
    events: Following | None = Field(
        default=None, description="null where no events are taken, and until a bundle is loaded"
    )
    problem: str | None = Field(default=None, description="why not ok, and who is not")

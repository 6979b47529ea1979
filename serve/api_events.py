"""The wire format of what happens: posts, deletions, engagements, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, model_validator

from configs import near_miss
from pipelines.schema import ACTION_NAMES
from serve.api import NO_BOOL, Id, Request

DELETION = "deletion/"  # begins the key of every deletion, and of nothing else


def _is_action(name: str) -> str:
    if name not in ACTION_NAMES:
        raise ValueError(f"no such action{near_miss(name, ACTION_NAMES)}")
    return name


Instant = Annotated[int, NO_BOOL, Field(ge=0, le=2**53)]  # ms since 1970-01-01 UTC
Seconds = Annotated[float, Field(ge=0, le=1e9)]
ActionName = Annotated[str, AfterValidator(_is_action)]


class _Event(Request):
    """Base of what may happen; a time left out is that of the server."""

    time: ClassVar[str]  # the field that says when it happened

    def columns(self) -> dict[str, Any]:
        """Values by column of the event's table in pipelines.schema.

        Raises:
            ValueError: a time is missing that the server should have filled in.
        """
        values = self.model_dump(exclude={"kind"})
        if values[self.time] is None:
            raise ValueError(f"{self.time}: missing")
        return values


class NewPost(_Event):
    """A post was published."""

    time = "created_at_ms"
    kind: Literal["post"]
    post_id: Id
    author_id: Id
    created_at_ms: Instant | None = Field(default=None, description="ms since 1970 UTC")
    text: str | None = Field(default=None, max_length=100_000)
    language: str | None = Field(default=None, max_length=12, description="BCP 47 tag")
    topic_ids: list[Id] | None = Field(default=None, max_length=100)
    duration_s: Seconds | None = Field(default=None, description="length of its video")
    reply_to_post_id: Id | None = None
    repost_of_post_id: Id | None = None
    quote_of_post_id: Id | None = None

    @property
    def key(self) -> str:
        """A post is published once; one that was taken away, again at a time that is given."""
        at = "" if self.created_at_ms is None else f"/{self.created_at_ms}"
        return f"post/{self.post_id}{at}"


class Deletion(_Event):
    """A post was taken away."""

    time = "deleted_at_ms"
    kind: Literal["deletion"]
    post_id: Id
    deleted_at_ms: Instant | None = Field(default=None, description="ms since 1970 UTC")

    @property
    def key(self) -> str:
        """A post may be taken away again after it came back."""
        return f"{DELETION}{self.post_id}/{self.deleted_at_ms}"


class Engagement(_Event):
    """A viewer did something with a post."""

    time = "at_ms"
    kind: Literal["engagement"]
    event_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="idempotency key: one of the viewer's that was sent before is not counted "
        "again; without it the viewer, post, action and time name the event",
    )
    user_id: Id
    post_id: Id
    action: ActionName
    at_ms: Instant | None = Field(default=None, description="ms since 1970 UTC")
    dwell_s: Seconds | None = Field(default=None, description="with dwell_time, and only there")
    surface: int | None = Field(default=None, ge=0, le=15)
    request_id: str | None = Field(
        default=None, max_length=128, description="the feed response that showed the post"
    )

    @model_validator(mode="after")
    def _dwell_is_measured(self) -> Engagement:
        if (self.action == "dwell_time") != (self.dwell_s is not None):
            raise ValueError("dwell_s belongs to action dwell_time, and dwell_time needs it")
        return self

    @property
    def key(self) -> str:
        """Of the viewer: two viewers' clients may give one name."""
        return f"{self.user_id}/{self._name}"

    @property
    def _name(self) -> str:
        """What the client named it, or what happened."""
        return self.event_id or f"{self.post_id}/{self.action}/{self.at_ms}"

    def columns(self) -> dict[str, Any]:
        """As above, the event named."""
        return super().columns() | {"event_id": self._name}


Event = Annotated[NewPost | Deletion | Engagement, Field(discriminator="kind")]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class EventsRequest(Request):
    """What has happened, each event judged by itself."""

    events: list[Any] = Field(
        min_length=1,
        max_length=1_000,
        description="posts, deletions and engagements, each with its `kind`",
        json_schema_extra={
            "items": {"oneOf": [m.model_json_schema() for m in (NewPost, Deletion, Engagement)]}
        },
    )


class EventResult(BaseModel):
    """What became of one event of a request."""

    status: Literal["accepted", "duplicate", "invalid"] = Field(
        description="accepted: it is written down and lasts; duplicate: it was before"
    )
    problem: str | None = Field(default=None, description="why it is invalid, and where")


class EventsResponse(BaseModel):
    """What became of each event, in their order."""

    results: list[EventResult]

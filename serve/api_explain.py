"""The wire format of explanations, nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from serve.api import FROM_JSON, Explained, FeedName, Id, Model, Number, Numbers, SearchText
from serve.api_feed import Wishes


class ExplainQuery(Wishes):
    """Ask why a viewer gets, or does not get, a post."""

    user_id: Id
    post_id: Id
    feed: FeedName = "timeline"
    query: SearchText | None = Field(default=None, description="as in the request of the page")
    focal_post_id: Id | None = Field(
        default=None, description="`post_id` in the request of the page"
    )
    limit: int = Field(default=20, ge=1, le=100, description="length of the page in question")
    surface: int = Field(default=0, ge=0, le=15, description="surface of the page in question")
    overrides: Annotated[dict[str, Any], FROM_JSON] = Field(
        default_factory=dict, description="settings of the page in question, as a JSON object"
    )


class Brought(Explained):
    """A source that brought the post."""

    source: str
    rank: int = Field(description="1 = the best that this source found")
    value: Number = Field(description="what the source ranks by")
    meaning: str


class Verdict(Explained):
    """What one filter said."""

    filter: str
    kept: bool
    outcome: str = Field(description="ok, or why the filter did not run and its default decided")
    looked_at: dict[str, Number] = Field(description="the post's columns that it judged by")


class Term(Explained):
    """One action's part in a post's value."""

    action: str
    amount: Number = Field(description="probability, or seconds for dwell_time")
    weight: Number
    points: Number = Field(description="amount times weight")


class Score(Explained):
    """How the score came about: base_score times every multiplier."""

    basis: Literal["value", "popularity"]
    terms: list[Term] = Field(description="largest first; they add up to value")
    value: Number
    base_score: Number = Field(
        description="value, lifted so that it is never negative, plus what scorers add; see notes"
    )
    multipliers: dict[str, Number]
    score: Number
    notes: list[str] = Field(description="what scorers did to it, in words")
    numbers: dict[str, dict[str, Numbers]] = Field(
        default_factory=dict,
        description="scorer -> what it computed beside its effect, by name; lists per scale",
    )


class Explanation(Explained):
    """The way of one post through the viewer's feed."""

    post_id: int
    outcome: Literal["served", "below", "cut", "dropped", "not_retrieved"]
    place: int | None = Field(description="on the page, 1 = top")
    rank: int | None = Field(description="by score among those that passed the filters, 1 = best")
    sources: list[Brought]
    filters: list[Verdict]
    dropped_by: list[str]
    notes: list[str] = Field(description="what is known of it, in words, such as a label")
    score: Score | None
    similarity: float | None = Field(
        description="of a post not retrieved: how near it is to the viewer, as the value of "
        "two_tower in last_in; null = one of the two has no place yet, or there is a zoom"
    )
    last_in: list[Brought] = Field(
        description="of a post not retrieved: the last post that each source brought"
    )
    summary: str = Field(description="all this in one sentence")


class ExplainResponse(BaseModel):
    """Why a viewer gets a post, or does not."""

    user_id: int
    cold_start: bool
    degraded: list[str] = Field(description="as in a feed")
    arms: dict[str, str] = Field(description="as in a feed; of the experiments of now")
    model: Model
    explanation: Explanation

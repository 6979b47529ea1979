"""The wire format of diagnostics, nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import Field

from serve.api import Explained, Model

Number = float | None  # null = unknown; diagnostics give no NaN
IdInPath = Annotated[int, Path(ge=1, le=2**63 - 1)]


class Finding(Explained):
    """One part, dimension or score, with all that it was made of."""

    name: str
    about: str = Field(description="what it is, in plain words")
    value: Number = Field(description="null = unknown; `unknown` says why")
    low: Number = Field(description="lower end of its interval, equal to the value of a count")
    high: Number = Field(description="upper end")
    typical: Number = Field(description="value of what is like the log over all, or in the middle")
    formula: str
    inputs: dict[str, Number] = Field(description="numbers of the formula, by name")
    over: list[str] = Field(description="terms of a composite that are known and were taken")
    window: str = Field(description="which showings, posts or events were counted")
    sample: Number = Field(description="how many of what `counted` says")
    counted: str
    unknown: str | None = Field(description="why there is no value, with the minimum")
    percentile: Number = Field(description="share of the `among` others that have a lower value")
    among: int = Field(description="posts, authors or viewers of the bundle whose value is known")


class ActionRate(Explained):
    """How often one action was done, over the whole log."""

    action: str
    done: int
    shown: int
    rate: Number
    low: Number = Field(description="lower end of Wilson's 95 % interval")
    high: Number
    base_rate: Number = Field(description="the same of the log over all")
    weight: Number = Field(description="what the ranker's value model weighs it with")
    beside: str = Field(description="above or below the base rate, or cannot be told apart from it")


class OnSurface(Explained):
    """What one product surface contributes, of the showings that the profiles hold."""

    surface: int = Field(description="0 = unknown")
    shown: int
    share: Number = Field(description="of the showings of this post or author")
    low: Number
    high: Number
    base_share: Number = Field(description="the surface's share of all showings")
    worth_share: Number = Field(
        description="the surface's share of what viewers did, weighed as the ranker weighs it"
    )


class Answer(Explained):
    """A complaint that people make, and what the numbers say to it."""

    complaint: str
    answer: str
    numbers: dict[str, Number]


class DiagnosticsResponse(Explained):
    """What is known of one post or author. It never changes the ranking."""

    id: int
    author_id: int = Field(description="whose account the author's parts are of; 0 = unknown")
    model: Model
    shown: int = Field(description="showings in the whole log")
    scores: list[Finding]
    dimensions: list[Finding]
    parts: list[Finding]
    rates: list[ActionRate]
    surfaces: list[OnSurface]
    surfaces_window: str
    labels: list[str] = Field(description="labels that hold now; rules of the feed read them")
    answers: list[Answer]
    recommendations: list[str] = Field(description="parts that stand out, in plain words")
    not_measured: dict[str, str] = Field(description="signal -> why it is not measured")


class ViewerDiagnosticsResponse(Explained):
    """How well a viewer is known, and how varied the feed was."""

    id: int
    model: Model
    findings: list[Finding]
    answers: list[Answer]
    recommendations: list[str]
    not_measured: dict[str, str]

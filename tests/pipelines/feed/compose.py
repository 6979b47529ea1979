"""Feeds for tests: the default one with some components replaced or added."""

from __future__ import annotations

import asyncio

from pipelines.feed.discover import FeedConfig, discover
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import FeedResult, Trace
from pipelines.feed.services import Services
from pipelines.feed.stages import Component, FeedQuery


def compose(*classes: type[Component], **off: str) -> Pipeline:
    """The default feed, plus `classes`, minus the components named: `filters="age seen"`."""
    found = discover()
    for cls in classes:
        found[cls.stage] = {**found[cls.stage], cls.name: cls}
    settings = {stage: dict.fromkeys(names.split()) for stage, names in off.items()}
    return Pipeline.build(FeedConfig.model_validate(settings), found)


def serve(pipeline: Pipeline, query: FeedQuery, services: Services) -> FeedResult:
    """One run, in a loop of its own."""
    return asyncio.run(pipeline.run(query, services))


def entry(result: FeedResult, key: str) -> Trace:
    """The last trace entry of one component."""
    return [entry for entry in result.trace if entry.key == key][-1]

"""Makes the pages of ready requests with one blend after another, and measures them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.discover import FeedConfig
from pipelines.feed.query_hydrators.blend import Blend as BlendInUse
from pipelines.feed.run import Run
from pipelines.feed.stages import with_context
from pipelines.feed.table import Candidates
from pipelines.feed.waves import Stages
from train.bundle import Bundle
from train.tuning.blended import Blended
from train.tuning.fields import Fields
from train.tuning.measures import means
from train.tuning.ready import Answers, Ready, Requests, check_whole, stages_of
from train.tuning.varying import only, varying

Floats = NDArray[np.float64]
_COMPOSED = 16  # feeds kept: a trial's is asked for once a chunk
Measured = dict[str, Floats]  # measure -> of each request [R]


class Pages:
    """Pages of the same requests, in chunks that are spread over their time.

    Attributes:
        requests: as they were made ready.
        num_chunks: parts that are measured one by one.
    """

    def __init__(
        self,
        requests: Requests,
        bundle: Bundle,
        feed: FeedConfig,
        names: Iterable[str],
        num_chunks: int = 1,
        num_fields: int = 8,
    ) -> None:
        """Ready to measure; runs the scorers that no setting changes.

        Args:
            requests: whose pages.
            bundle: whose blend settings change; its weights and card alone are read.
            feed: feed.yaml.
            names: of the settings that may be changed.
            num_chunks: parts that are measured one by one.
            num_fields: settings of the field that are kept.
        """
        self.requests, self._bundle, self._feed = requests, bundle, feed
        self._fields = Fields(requests.vectors, num_fields)
        self._stages = stages_of(feed, Blended.of(bundle, feed, {}).feed)
        self._varying = varying(self._stages, names)
        still = only(self._stages, self._varying, inside=False)
        self._ready = asyncio.run(self._scored(requests.ready, still))
        self.num_chunks = min(num_chunks, len(requests.ready))
        self._composed = lru_cache(_COMPOSED)(self._compose)

    @property
    def viewer(self) -> NDArray[np.int64]:
        """Who asks each request. [R]."""
        return self.requests.viewer

    def blended(self, settings: Mapping[str, Any]) -> Blended:
        """The blend that settings stand for, and whether a feed can be made with it.

        Raises:
            ConfigError, WiringError: it cannot.
            ValueError: a setting that was not said to change.
        """
        return self._composed(json.dumps(settings, sort_keys=True))[0]

    def pages(self, settings: Mapping[str, Any], rows: Sequence[int]) -> list[Candidates]:
        """The pages of some requests.

        Raises:
            ConfigError, WiringError: as `blended`.
            RuntimeError: a component failed.
        """
        blended, stages = self._composed(json.dumps(settings, sort_keys=True))
        ready = [self._ready[row] for row in rows]
        return asyncio.run(self._pages(ready, blended, stages))

    def measure(self, settings: Mapping[str, Any], chunk: int) -> Measured:
        """What the pages of every `num_chunks`-th request measure, from the chunk's on."""
        rows = range(chunk, len(self.requests.ready), self.num_chunks)
        judged = [
            self.requests.judges[row].measure(page)
            for row, page in zip(rows, self.pages(settings, rows), strict=True)
        ]
        return {name: np.array([each[name] for each in judged]) for name in judged[0]}

    def measure_all(self, settings: Mapping[str, Any]) -> Measured:
        """The same of all requests, in their order. [R] each."""
        return joined([self.measure(settings, chunk) for chunk in range(self.num_chunks)])

    def means(self, settings: Mapping[str, Any]) -> dict[str, float]:
        """Their means."""
        return means(self.measure_all(settings))

    def _compose(self, settings: str) -> tuple[Blended, Stages]:
        given = json.loads(settings)
        if unsaid := varying(self._stages, given) - self._varying:
            raise ValueError(f"{', '.join(sorted(unsaid))}: was not said to vary")
        blended = Blended.of(self._bundle, self._feed, given)
        stages = stages_of(self._feed, blended.feed)
        return blended, only(stages, self._varying, inside=True)

    async def _pages(
        self, ready: Sequence[Ready], blended: Blended, stages: Stages
    ) -> list[Candidates]:
        return [(await self._run(each, blended, stages)).posts for each in ready]

    async def _scored(self, ready: Sequence[Ready], stages: Stages) -> list[Ready]:
        """With the columns of the scorers that never vary."""
        blended = Blended.of(self._bundle, self._feed, {})
        found = [await self._run(each, blended, stages, page=False) for each in ready]
        return [replace(r, posts=run.posts) for r, run in zip(ready, found, strict=True)]

    async def _run(self, ready: Ready, blended: Blended, stages: Stages, page: bool = True) -> Run:
        content = self.requests.vectors["content"]
        services: Any = Answers(ready, blended, content, self._fields)
        run = Run(stages, ready.query, services, ready.posts)
        for component in (c for wave in stages["query_hydrators"] for c in wave):
            if isinstance(component, BlendInUse):
                found = await component.hydrate(run.query, services)
                run.query = with_context(run.query, found)
        await run.score()
        if page:
            run.select()
            run.fill_page()
        check_whole(run)
        return run


def joined(chunks: Sequence[Measured]) -> Measured:
    """Measures of all chunks in the order of the requests, of some one chunk after the other."""
    found = {}
    for name in chunks[0]:
        values = np.empty(sum(len(chunk[name]) for chunk in chunks))
        for at, chunk in enumerate(chunks):
            values[at :: len(chunks)] = chunk[name]
        found[name] = values
    return found

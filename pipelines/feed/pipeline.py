"""A feed: composed once from feed.yaml, run for every request."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipelines.feed.discover import FeedConfig, Found, discover
from pipelines.feed.experiments import Experiment
from pipelines.feed.result import FeedResult, Trace
from pipelines.feed.run import Run
from pipelines.feed.services import Services
from pipelines.feed.slots import Slot
from pipelines.feed.stages import Component, FeedQuery, Source, with_context
from pipelines.feed.table import Candidates
from pipelines.feed.variants import Variants
from pipelines.feed.waves import Stages, members


class Pipeline:
    """Composed stages; many requests may run at a time.

    Attributes:
        failures: component's key -> failures and time-outs since start-up, side
            effects' too.
    """

    def __init__(self, variants: Variants) -> None:
        """Take the feeds that a feed.yaml describes; `build` does it from the file's settings."""
        self._variants = self._given = variants
        self._adopted: Mapping[str, Any] = {}
        self._changing = threading.Lock()  # held by whoever makes other variants
        self.failures: Counter[str] = Counter()
        self._background: set[asyncio.Task[tuple[Trace, ...]]] = set()

    @property
    def stages(self) -> Stages:
        """Of the usual feed: stage -> waves of components, in the order they run."""
        return self._variants.usual

    @property
    def slots(self) -> Sequence[Slot]:
        """Places between the posts of its pages."""
        return self._variants.slots

    @property
    def zooms(self) -> bool:
        """Whether a request may name a zoom: some source finds posts by it."""
        sources = [one for one in self.components if isinstance(one, Source)]
        return any(one.zooms and not one.beside_cache for one in sources)

    @property
    def needs_prefix(self) -> str | None:
        """The setting by which its pages rest on prefix vectors, whatever a request names."""
        for one in self.components:
            if getattr(one, "zoom", None) is not None:
                return f"{one.key}.zoom"
            if getattr(one, "space", None) == "prefix":
                return f"{one.key}.space"
        return None

    @property
    def requires(self) -> tuple[str, ...]:
        """What a request must give, as FeedQuery calls it: none other is for this feed."""
        return self._variants.requires

    @classmethod
    def build(cls, config: FeedConfig | None = None, found: Found | None = None) -> Pipeline:
        """Compose the feed that `config` describes.

        Args:
            config: feed.yaml as `configs.load(path, FeedConfig)` reads it; None =
                every component with its defaults.
            found: components to choose from; None = those in the stage folders.

        Raises:
            ConfigError: an unknown component or setting, or a wrong value.
            WiringError: components that do not fit together.
        """
        return cls(Variants(config or FeedConfig(), found or discover()))

    @property
    def components(self) -> Iterable[Component]:
        """All components of the usual feed in the order they run."""
        return members(self.stages)

    def adopt(self, settings: Mapping[str, Any]) -> None:
        """From the next page on take what a bundle was tuned to, where feed.yaml says nothing.

        What was adopted before is forgotten.

        Args:
            settings: stage.component.setting -> value.

        Raises:
            ConfigError, WiringError: as `build`; the feed stays as it was.
        """
        with self._changing:
            self._variants, self._adopted = self._given.over(settings), settings

    def share_out(self, experiments: Mapping[str, Experiment]) -> None:
        """From the next page on share viewers out by these experiments, and by none before.

        Raises:
            ConfigError, WiringError: as `build`; the feed stays as it was.
        """
        with self._changing:
            given = self._given.sharing(experiments)
            self._variants, self._given = given.over(self._adopted), given

    async def run(self, query: FeedQuery, services: Services) -> FeedResult:
        """Make a page. What a component raises ends up in the trace, never here.

        Side effects wait until `start_side_effects`.

        Raises:
            ConfigError: the query overrides a setting that it may not, or with a wrong value.
        """
        variant = self._variants.of(query)
        query = replace(query, variant=variant.fingerprint)
        run = Run(variant.stages, query, services, Candidates.empty())
        result = await run.feed(variant.arms)
        self.failures.update(run.failed)
        return result

    def start_side_effects(
        self, result: FeedResult, services: Services
    ) -> asyncio.Task[tuple[Trace, ...]]:
        """Start the side effects of a served page and return at once.

        The task never raises; its result is their trace. It is kept alive until done.
        """
        task = asyncio.create_task(self._side_effects(result, services))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def drain(self) -> None:
        """Wait for all side effects under way: call it before shutting down."""
        await asyncio.gather(*self._background)

    async def _side_effects(self, result: FeedResult, services: Services) -> tuple[Trace, ...]:
        query = with_context(result.query, {"query.degraded": result.degraded})
        run = Run(self._variants.of(query).stages, query, services, result.page)
        trace = await run.side_effects(result)
        self.failures.update(run.failed)
        return trace

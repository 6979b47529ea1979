"""Prints a composed feed: `python -m pipelines.feed [configs/feed.yaml] [key=value …]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

import configs
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.stages import Component, Waiting


def composition(pipeline: Pipeline) -> Table:
    """One row a component in the order they run; those of one wave run side by side."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("component", "wave", "needs (wants)", "provides", "fails", "ms"):
        table.add_column(heading, no_wrap=True)
    for stage, waves in pipeline.stages.items():
        table.add_row(f"[bold]{stage}[/bold]")
        for number, wave in enumerate(waves, start=1):
            for component in wave:
                table.add_row(f" {component.name}", str(number), *_cells(component))
    return table


def main(arguments: Sequence[str]) -> None:
    """Compose the feed of a settings file, or the default feed, and print it."""
    paths = [argument for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    config = configs.load(paths[0] if paths else "configs/feed.yaml", FeedConfig, overrides)
    Console().print(composition(Pipeline.build(config)))


def _cells(component: Component) -> tuple[str, ...]:
    needs = "\n".join([*component.needs, *(f"({want})" for want in component.wants)])
    timeout = str(component.timeout_ms) if isinstance(component, Waiting) else ""
    return needs, "\n".join(component.provides), component.fails, timeout


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:  # settings or wiring; the text says all
        sys.exit(str(error))

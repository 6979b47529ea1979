"""Runs a function over items side by side, as tasks of Ray Data, with a progress bar."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray.data
from rich.console import Console
from rich.progress import Progress

from pipelines.runtime import quiet_data

T = TypeVar("T")
R = TypeVar("R")


def over_ray(what: str, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R]]:
    """The `job.Spread` of a Ray cluster: one task an item, as many at once as there are CPUs.

    Raises:
        Whatever `function` raises, as itself.
    """
    if not items:
        return

    def task(row: dict[str, Any]) -> dict[str, Any]:
        os.environ.setdefault("POLARS_MAX_THREADS", "1")  # the CPUs are taken by tasks
        at = int(row["id"])
        try:
            result: Any = function(items[at])
        except Exception as error:
            result = error
        return {"at": at, "result": pickle.dumps(result)}

    quiet_data()
    tasks = ray.data.range(len(items), override_num_blocks=len(items)).map(task)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=len(items))
        for row in tasks.iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, Exception):
                raise result
            yield row["at"], result
            progress.advance(bar)

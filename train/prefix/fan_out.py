"""Independent calls over a Ray cluster, with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def over_cluster(
    call: Callable[..., Any],
    arguments: Sequence[Sequence[Any]],
    devices: Sequence[str],
    names: Sequence[str],
) -> Iterator[tuple[int, Any]]:
    """Run `call` once for each of `arguments`, a CPU each, and a GPU where its device is one.

    Args:
        call: a function of a module, which workers import.
        arguments: of each call; ObjectRefs come as what they refer to.
        devices: of each call, as torch names them.
        names: of each call, shown when it ends.

    Yields:
        The place of a call in `arguments` and what it returned, as calls end.
    """
    import ray

    from pipelines.runtime import connect

    connect()
    task = ray.remote(num_cpus=1)(call)
    running = {
        task.options(num_gpus=int(device.startswith("cuda"))).remote(*given): at
        for at, (given, device) in enumerate(zip(arguments, devices, strict=True))
    }
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[last]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("training heads", total=len(running), last="")
        while running:
            (ref,), _ = ray.wait(list(running))
            at = running.pop(ref)
            yield at, ray.get(ref)
            progress.update(bar, advance=1, last=names[at])


def put(value: Any) -> Any:
    """`value` in the cluster's store, once for all calls."""
    import ray

    from pipelines.runtime import connect

    connect()
    return ray.put(value)

"""Shows in the driver's terminal how far the workers of a run are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayActorError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_POLL_S = 0.5


@ray.remote(num_cpus=0)
class Board:
    """Where rank 0 notes what it has done and the driver looks."""

    def __init__(self) -> None:
        self.steps, self.loss = 0, float("nan")

    def note(self, steps: int, loss: float) -> None:
        """Steps made since the run began, and the loss of the last."""
        self.steps, self.loss = steps, loss

    def look(self) -> tuple[int, float]:
        """What was noted last."""
        return self.steps, self.loss


@contextmanager
def shown(name: str, num_steps: int) -> Iterator[Any]:
    """A bar for a run of `num_steps`; gives the board for its workers to write on."""
    board = Board.remote()  # type: ignore[attr-defined]
    done = threading.Event()
    columns = (
        TextColumn("training {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(name, total=num_steps, loss=float("nan"))

        def look() -> None:
            with suppress(RayActorError):  # its node was lost: the run goes on without a bar
                steps, loss = ray.get(board.look.remote())
                progress.update(bar, completed=steps, loss=loss)

        def follow() -> None:
            while not done.wait(_POLL_S):
                look()

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield board
            look()
        finally:
            done.set()
            follower.join()
            ray.kill(board)

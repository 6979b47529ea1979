"""Concurrent calls answered together, without waiting for a batch to fill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Turns `work` on many items into a call with one.

    What arrives while one pass runs on its thread is the next pass: an idle batcher
    answers at once, a busy one in batches as large as the load makes them. An error
    in a pass, a wrong number of answers included, is raised in each of its calls and
    in no other. Belongs to one event loop.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]], max_size: int = 16) -> None:
        """Take `work`, which answers each item as if it were alone, at most `max_size` at once."""
        self._work = work
        self._max_size = max_size
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._passes: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """The answer to one item."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._passes is None:
            self._passes = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[: self._max_size]
                del self._waiting[: self._max_size]
                wanted = [(item, answer) for item, answer in batch if not answer.done()]
                if wanted:
                    await self._answer(wanted)
        finally:  # also when cancelled: nobody is left waiting, and the next call starts anew
            self._passes = None
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()

    async def _answer(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await asyncio.to_thread(self._work_on, [item for item, _ in batch])
        except Exception as error:
            for _, answer in batch:
                if not answer.done():  # its caller may have given up
                    answer.set_exception(error)
        except BaseException:
            for _, answer in batch:
                answer.cancel()
            raise
        else:
            for (_, answer), result in zip(batch, results, strict=True):
                if not answer.done():
                    answer.set_result(result)

    def _work_on(self, items: Sequence[T]) -> list[R]:
        try:
            results = list(self._work(items))
        except StopIteration as error:  # which a future cannot hold
            raise RuntimeError("the work ended in a StopIteration") from error
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} calls got {len(results)} answers")
        return results

"""Takes in what happens: checks each event, fills in times, writes all to the journal at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import ValidationError

from serve import api_events
from serve.live.journal import Journal
from serve.live.messages import Message, message

_THREADS = 16  # appends under way at once
_KINDS = ("post", "deletion", "engagement")


class Intake:
    """The way into a journal."""

    def __init__(
        self, journal: Journal, now_ms: Callable[[], int], max_ahead_s: float = 60.0
    ) -> None:
        """Write to `journal`.

        Args:
            journal: where to.
            now_ms: what time it is; ms since 1970.
            max_ahead_s: how far an event's time may be in the future: clocks differ.
        """
        self._journal = journal
        self._now_ms = now_ms
        self._max_ahead_s = max_ahead_s
        # Of its own: a journal that hangs must not keep others from their threads.
        self._threads = ThreadPoolExecutor(_THREADS, "journal-append")

    async def take(self, events: Sequence[Any]) -> api_events.EventsResponse:
        """Judge each event by itself, and write down those that are valid.

        Returns:
            One result an event, in their order. What is `accepted` lasts.

        Raises:
            JournalError: the journal cannot be written now. Sending all again is safe: events
                have names, and those that were written are not counted twice.
        """
        now_ms = self._now_ms()
        checked = [self._check(event, now_ms) for event in events]
        messages = [event for event in checked if isinstance(event, Message)]
        new: Iterator[bool] = iter(())
        if messages:
            loop = asyncio.get_running_loop()
            appended = loop.run_in_executor(self._threads, self._journal.append, messages)
            new = iter(await appended)
        return api_events.EventsResponse(
            results=[
                api_events.EventResult(status="invalid", problem=event)
                if isinstance(event, str)
                else api_events.EventResult(status="accepted" if next(new) else "duplicate")
                for event in checked
            ]
        )

    def _check(self, event: Any, now_ms: int) -> Message | str:
        """The event with its time as a message, or why it is none."""
        try:
            checked = api_events.EVENT.validate_python(event, strict=False)
        except ValidationError as error:
            told = (f"{_place(e['loc'])}{e['msg']}" for e in error.errors())
            return "; ".join(told)
        name = checked.time
        at_ms = getattr(checked, name)
        if at_ms is None:
            timed = checked.model_copy(update={name: now_ms})
            # Of the server's time there is a new one with every try.
            return message(timed, checked.key if checked.kind == "post" else None)
        ahead_s = (at_ms - now_ms) / 1000
        if ahead_s > self._max_ahead_s:
            return (
                f"{name}: {at_ms} is {ahead_s:.0f} s ahead of the server's time; at most "
                f"{self._max_ahead_s:g} s are allowed, and without it the server's time counts"
            )
        return message(checked)


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the event, without the kind that pydantic puts first."""
    inner = ".".join(str(part) for part in loc if part not in _KINDS)
    return f"{inner}: " if inner else ""

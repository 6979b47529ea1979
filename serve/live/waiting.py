"""What one view has yet to be told, and how far it came: under `follower`, read that first."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from serve.live.messages import Happened, Message, View

_log = logging.getLogger(__name__)


class _Settings(Protocol):
    @property
    def first_retry_s(self) -> float: ...

    @property
    def last_retry_s(self) -> float: ...

    @property
    def max_waiting(self) -> int: ...


class Reached:
    """How far one came in each part of a journal; each part is read in its order."""

    def __init__(self, position: Mapping[str, int] | None = None) -> None:
        self._of = dict(position or {})

    def lacks(self, message: Message) -> bool:
        """Whether the message lies beyond that; of one without a place nobody can tell."""
        return message.place is None or message.place[1] > self._of.get(message.place[0], -1)

    def add(self, messages: Sequence[Message]) -> None:
        """It came as far as these; what lies before where it was changes nothing."""
        for message in messages:
            if message.place is not None and self.lacks(message):
                self._of.update([message.place])

    def copy(self) -> Reached:
        """The same, whatever is added to either."""
        return Reached(self._of)


class Waiting:
    """What one view has yet to apply.

    It takes each message once, however often the journal is read. Past `max_waiting` it lets go
    of all but the first batch, by which it sees whether the view works again: then `work` says
    that the journal is to be read again, and it takes what it lacks.
    """

    def __init__(self, view: View, settings: _Settings) -> None:
        self._view = view
        self._name = type(view).__name__
        self._settings = settings
        self._reached = Reached()
        self._events: deque[tuple[Happened, Reached]] = deque()  # and how far each brings it
        self._num = 0
        self._let_go = False  # some of what it missed is no longer here
        self._retry_s = settings.first_retry_s
        self._due_at_s = 0.0
        self.problem: str | None = None

    @property
    def behind(self) -> bool:
        """Whether it has anything to apply."""
        return bool(self._events)

    def due_in_s(self) -> float:
        """When it is to be tried again."""
        return self._due_at_s - time.monotonic()

    def lacks(self, message: Message) -> bool:
        """Whether the message is for it to take: neither applied nor waiting."""
        return not self._let_go and self._reached.lacks(message)

    def add(self, messages: Sequence[Message], events: Happened) -> None:
        """Take `messages`, all of which it lacks; `events` is what they say."""
        self._reached.add(messages)
        if not len(events):
            return
        self._events.append((events, self._reached.copy()))
        self._num += len(events)
        if self._num > self._settings.max_waiting and len(self._events) > 1:
            self._let_go = True
            while len(self._events) > 1:
                self._num -= len(self._events.pop()[0])
            self._reached = self._events[0][1].copy()

    def work(self) -> bool:
        """Apply what waits, if the time has come; whether the journal must be read again for it."""
        if not self._events or self.due_in_s() > 0:
            return False
        try:
            while self._events:
                events, _ = self._events[0]
                self._view.apply(events)
                self._num -= len(events)
                self._events.popleft()
        except Exception as error:  # a view may raise anything, and none may end the thread
            if self.problem is None:
                _log.exception("%s: could not apply %d events", self._name, len(events))
            self.problem = f"{self._name}: {self._num} events wait: {error!r}"
            self._due_at_s = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, self._settings.last_retry_s)
            return False
        if self.problem is not None:
            _log.warning("%s: works again", self._name)
        self.problem = None
        self._retry_s = self._settings.first_retry_s
        let_go, self._let_go = self._let_go, False
        return let_go

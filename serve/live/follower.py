"""Follows the journal: one thread that reads what happened and hands it to every view."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from configs import Config
from serve.live.catch_up import CatchUp
from serve.live.dead_letters import DeadLetters
from serve.live.journal import Journal, JournalError, Reader
from serve.live.messages import TOPICS, Message, Topic, View, happened, in_order
from serve.live.waiting import Reached, Waiting

_log = logging.getLogger(__name__)
_Name = tuple[str, str]
_Place = tuple[str, int] | None
# Told how far all views are, and the place of each message seen lately by its name.
Checkpoint = Callable[[Mapping[str, int], Mapping[_Name, _Place]], None]


class FollowerSettings(Config):
    """How a follower reads."""

    max_messages: PositiveInt = 1_000  # handed to views at once
    gather_s: NonNegativeFloat = 0.0  # how long messages are gathered first, for views of files
    poll_timeout_s: PositiveFloat = 0.5  # of one look at the journal; closing waits as long
    first_retry_s: PositiveFloat = 0.1  # after a failure; doubles up to last_retry_s
    last_retry_s: PositiveFloat = 30.0
    max_waiting: PositiveInt = 50_000  # messages kept for a view that fails
    max_keys: PositiveInt = 200_000  # of messages seen lately, which are not handed on again
    lag_every_s: PositiveFloat = 5.0  # how often `lag` is asked for


class Follower:
    """Hands what happened to views, in order, until closed.

    A view that raises gets the same again, later and later; the other views go on meanwhile, and
    get nothing twice for it. What waits for a failing view is kept in memory, up to
    `max_waiting` messages. Past that it is let go: once the view works again, the journal is read
    again from where all views were, and each takes of it what it lacks.

    Nothing is committed for the group before every view has it. So one whose store is out for
    long holds back a group's commits, though not its reading: give such a view a group of its own.

    A message that cannot be read is written to the dead letters, logged, and passed over.

    Attributes:
        num_applied: events that every view had a chance to apply, repeats left out.
        lag: messages that were written and not read yet, as of a moment ago; None = not known.
    """

    def __init__(
        self,
        journal: Journal,
        views: Sequence[View],
        topics: Sequence[Topic] = TOPICS,
        group: str | None = None,
        *,
        after: Mapping[str, int] | None = None,
        seen: Mapping[_Name, _Place] | None = None,
        checkpoint: Checkpoint | None = None,
        dead_letters: str = "artifacts/live/dead_letters/follower.jsonl",
        settings: FollowerSettings | None = None,
        name: str = "follower",
    ) -> None:
        """Start to follow.

        Args:
            journal: where from.
            views: who is told, in this order; called by one thread.
            topics: what of.
            group: as in Journal.reader.
            after: a `position` from which to go on, of a follower without a group.
            seen: messages that were seen before that, of which copies may come.
            checkpoint: called by the same thread whenever all views have all that was read.
            dead_letters: file for messages that cannot be read; one of its own for each follower.
            settings: how to read.
            name: of the thread, and in the log.
        """
        self._journal = journal
        self._topics = tuple(topics)
        self._group = group
        self._settings = settings or FollowerSettings()
        self._name = name
        self._reader: Reader | None = journal.reader(self._topics, group, after)
        self._waiting = [Waiting(view, self._settings) for view in views]
        self._reached = Reached()  # of what was handed on; what lies before is not given out
        self._seen: OrderedDict[_Name, _Place] = OrderedDict(seen or {})  # lately, oldest first
        self._checkpoint = checkpoint
        self._gathered: list[Message] = []
        self._gathering_since_s = 0.0
        self._uncommitted = False
        self._done: Mapping[str, int] = dict(after or {})
        self._catch_up = CatchUp()
        self._counted_at_s = -self._settings.lag_every_s
        self._dead_letters = DeadLetters(dead_letters)
        self._journal_problem: str | None = None
        self._lag_problem: str | None = None
        self.num_applied = 0
        self.lag: int | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def caught_up(self) -> bool:
        """Whether what was written before the start is applied; once true it stays so.

        With several partitions, and messages that come as fast as they are read, a few of the
        old ones may be left, as CatchUp says.
        """
        return self._catch_up.done

    @property
    def num_poison(self) -> int:
        """Messages that could not be read."""
        return self._dead_letters.num

    @property
    def problem(self) -> str | None:
        """What keeps it from going on, or kept it a moment ago; None = nothing."""
        problems = [self._journal_problem or self._lag_problem, *(w.problem for w in self._waiting)]
        return "; ".join(filter(None, [*problems, self._dead_letters.problem])) or None

    @property
    def position(self) -> Mapping[str, int]:
        """How far every view is, for `after`: some beyond it may be applied already."""
        return self._done

    def close(self) -> None:
        """Stop reading; what is not committed comes again to the next of the group."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        retry_s = self._settings.first_retry_s
        while not self._closing.is_set():
            try:
                self._step()
            except Exception as error:  # a follower that dies would leave its views behind for good
                if not isinstance(error, JournalError):
                    _log.exception("%s: failed, goes on in %.1f s", self._name, retry_s)
                elif self._journal_problem is None:
                    _log.warning("%s: %s; tried again", self._name, error)
                self._journal_problem = str(error) or repr(error)
                self._closing.wait(retry_s)
                retry_s = min(2 * retry_s, self._settings.last_retry_s)
            else:
                self._journal_problem = None
                retry_s = self._settings.first_retry_s
        if self._reader is not None:
            self._reader.close()

    def _step(self) -> None:
        """Read once, hand on what is due, and commit what all views have."""
        settings = self._settings
        if self._reader is None:
            after = None if self._group is not None else self._done
            self._reader = self._journal.reader(self._topics, self._group, after)
        reader = self._reader
        room = settings.max_messages - len(self._gathered)
        if room > 0:
            found = reader.poll(room, self._poll_timeout_s())
            if found and not self._gathered:
                self._gathering_since_s = time.monotonic()
            self._gathered += found
            self._catch_up.read(len(found))
        if self._gathered and self._gathered_enough():
            self._hand_on(self._gathered)
            self._gathered = []
        recovered = False
        for waiting in self._waiting:
            recovered |= waiting.work()
        if recovered:
            self._read_again()
            return
        if not self._gathered and not any(w.behind for w in self._waiting):
            if self._uncommitted:
                reader.commit()
                self._uncommitted = False
            self._done = dict(reader.position())
            self._catch_up.applied()
            if self._checkpoint is not None:
                self._checkpoint(self._done, self._seen)
        self._count(reader)

    def _gathered_enough(self) -> bool:
        gathered_s = time.monotonic() - self._gathering_since_s
        full = len(self._gathered) >= self._settings.max_messages
        # Until the past is applied there is no end to wait for.
        return full or gathered_s >= self._settings.gather_s or not self.caught_up

    def _poll_timeout_s(self) -> float:
        dues = [w.due_in_s() for w in self._waiting if w.behind]
        if self._gathered:
            since_s = time.monotonic() - self._gathering_since_s
            dues.append(self._settings.gather_s - since_s)
        return max(0.0, min([self._settings.poll_timeout_s, *dues]))

    def _hand_on(self, messages: Sequence[Message]) -> None:
        """Decode what is no copy of what was seen lately, and queue it for views that lack it."""
        for part in in_order(self._first_copies(messages)):
            fresh = [message for message in part if self._reached.lacks(message)]
            events, problems = happened(fresh)
            for message, reason in zip(fresh, problems, strict=True):
                if reason is not None:
                    self._dead_letters.put(message, reason)
            self.num_applied += len(events)
            for waiting in self._waiting:
                theirs = [message for message in part if waiting.lacks(message)]
                if theirs:
                    told = events if theirs == fresh else happened(theirs)[0]
                    waiting.add(theirs, told)
            self._reached.add(part)
        while len(self._seen) > self._settings.max_keys:
            self._seen.popitem(last=False)
        self._uncommitted = True

    def _first_copies(self, messages: Sequence[Message]) -> list[Message]:
        """Without second copies; what is read again from its own place is none."""
        first: dict[_Name, Message] = {}
        for one in messages:
            known = one.name in self._seen
            if not known or (one.place is not None and self._seen[one.name] == one.place):
                first.setdefault(one.name, one)
            self._seen.setdefault(one.name, one.place)
        return list(first.values())

    def _read_again(self) -> None:
        """Go back to where every view was: one that failed for long let go of what it missed."""
        _log.warning("%s: reads again from %s", self._name, self._done)
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._gathered = []

    def _count(self, reader: Reader) -> None:
        now_s = time.monotonic()
        due = now_s - self._counted_at_s >= self._settings.lag_every_s
        if not due and not self._catch_up.asks:
            return
        self._counted_at_s = now_s
        try:
            self.lag = reader.lag()
        except JournalError as error:  # what can be read is read all the same
            self.lag, self._lag_problem = None, str(error)
        else:
            self._lag_problem = None
            self._catch_up.counted(self.lag)

"""Reading the journal in Kafka: all of it, or a group's share of it."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from serve.live.journal import JournalError, anew, gone_on
from serve.live.messages import Message, Topic

_log = logging.getLogger(__name__)
_LIST_EVERY_S = 60.0  # partitions that were added are read from then on
_INT64 = range(-(2**63), 2**63)


class KafkaReader:
    """Reads each partition in its order; a group's share may change between two polls.

    A partition that goes to another reader takes nothing uncommitted with it: that reader begins
    where the group committed last. A message that is none of ours is given out as it stands,
    with the place where it lies for a key.
    """

    def __init__(
        self,
        kafka: Any,
        client: Mapping[str, Any],
        names: Mapping[str, Topic],
        group: str | None,
        after: Mapping[str, int],
        timeout_s: float,
        prepare: Callable[[], None],
    ) -> None:
        """Begin; the broker is asked at the first poll.

        Args:
            kafka: the module confluent_kafka.
            client: settings of librdkafka.
            names: the broker's name of each topic to read -> ours.
            group: as the broker knows it; None = read everything.
            after: "name/partition" -> where to go on.
            timeout_s: of questions to the broker.
            prepare: makes sure that the topics exist; may raise JournalError.
        """
        self._kafka = kafka
        self._names = names
        self._group = group
        self._after = after
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._place = f"kafka at {client['bootstrap.servers']}"
        self._began = False
        self._listed_at_s = 0.0
        self._have_share = group is None
        self._partitions: set[tuple[str, int]] = set()  # that are read here
        self._next: dict[tuple[str, int], int] = {}  # the offset after the last given out
        self._parts: dict[tuple[str, int], str] = {}  # in positions, of what was made anew
        self._broken: str | None = None  # what the client said that may need an answer
        self._error: str | None = None  # what came between two messages
        group_id = group or f"{min(names)}-alone-{uuid.uuid4().hex}"  # never committed to
        self._consumer = kafka.Consumer(
            {
                **client,
                "group.id": group_id,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "error_cb": self._note,
            },
            logger=_log,
        )

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """As in Reader."""
        if self._error is not None:
            told, self._error = self._error, None
            raise JournalError(told)
        with self._failing("read"):
            self._begin()
            # Asked for many at once, the library waits for all of them.
            found = self._consumer.consume(1, timeout_s)
            if found and max_messages > 1:
                found += self._consumer.consume(max_messages - 1, 0.0)
            messages = [m for m in map(self._message, found) if m is not None]
            if messages:
                self._broken = None
            elif self._error is not None:
                told, self._error = self._error, None
                raise JournalError(told)
            elif self._broken is not None:  # silence may be that of a broker that is gone
                self._consumer.list_topics(min(self._names), self._timeout_s)
                self._broken = None
        return messages

    def commit(self) -> None:
        """As in Reader."""
        if self._group is None or not self._next:
            return
        with self._failing("commit"):
            done = [self._at(place, offset) for place, offset in self._next.items()]
            for at in self._consumer.commit(offsets=done, asynchronous=False):
                if at.error is not None:
                    raise self._kafka.KafkaException(at.error)

    def lag(self) -> int:
        """As in Reader, of this reader's share; a share that it waits for is a JournalError."""
        with self._failing("count"):
            self._begin()
            if not self._have_share:
                raise JournalError(f"{self._place}: group {self._group!r} gave out no shares yet")
            return sum(self._behind(place) for place in list(self._partitions))

    def position(self) -> Mapping[str, int]:
        """As in Reader: of each "topic/partition", the offset from which to go on."""
        mine = {self._part(place)[0]: offset for place, offset in self._next.items()}
        bases = {name.split("#")[0] for name in mine}
        return {n: at for n, at in self._after.items() if n.split("#")[0] not in bases} | mine

    def close(self) -> None:
        """As in Reader; the group's other readers take over at once."""
        self._consumer.close()

    def _begin(self) -> None:
        """Ask for a share, or take every partition that was not taken yet."""
        if self._group is not None:
            if not self._began:
                self._prepare()
                self._consumer.subscribe(
                    list(self._names),
                    on_assign=self._gain,
                    on_revoke=self._lose,
                    on_lost=self._lose,
                )
            self._began = True
            return
        if self._began and time.monotonic() - self._listed_at_s < _LIST_EVERY_S:
            return
        self._prepare()
        there = self._consumer.list_topics(timeout=self._timeout_s).topics
        for name in self._names:
            if name not in there or there[name].error is not None:
                raise JournalError(f"{self._place}: cannot read: topic {name} is not there yet")
        new = {(name, n) for name in self._names for n in there[name].partitions}
        new -= self._partitions
        if new:
            starts = {p: self._part(p)[1] for p in sorted(new)}
            beginning = self._kafka.OFFSET_BEGINNING
            self._consumer.incremental_assign(
                [self._at(p, beginning if at is None else at) for p, at in starts.items()]
            )
        self._partitions |= new
        self._began = True
        self._listed_at_s = time.monotonic()

    def _gain(self, _: object, partitions: Sequence[Any]) -> None:
        self._have_share = True
        self._partitions |= {(p.topic, p.partition) for p in partitions}

    def _lose(self, _: object, partitions: Sequence[Any]) -> None:
        for p in partitions:
            self._partitions.discard((p.topic, p.partition))
            self._next.pop((p.topic, p.partition), None)  # not ours to commit any more

    def _message(self, found: Any) -> Message | None:
        if found.error() is not None:
            if found.error().code() != self._kafka.KafkaError._PARTITION_EOF:
                self._error = f"{self._place}: cannot read {found.topic()}: {found.error()}"
            return None
        place = (found.topic(), found.partition())
        if place not in self._partitions:
            return None  # of a share that was lost in between; its new reader gets it
        part, after = self._part(place)
        reached = self._next.get(place, after or 0)
        if found.offset() < reached:
            part = self._parts[place] = anew(part)
            told = "%s: %s/%d ends before %d, up to which it was read; read again from %d, as %s"
            _log.warning(told, self._place, *place, reached, found.offset(), part)
        self._next[place] = found.offset() + 1
        return _read(found, self._names[found.topic()], part)

    def _part(self, place: tuple[str, int]) -> tuple[str, int | None]:
        """What positions call a partition, and from where it was to be read."""
        part, after = gone_on(self._after, f"{place[0]}/{place[1]}")
        return self._parts.get(place, part), after

    def _behind(self, place: tuple[str, int]) -> int:
        at = self._at(place)
        low, high = self._consumer.get_watermark_offsets(at, timeout=self._timeout_s)
        # The newest that was heard of while reading; a broker may answer with an older one.
        high = max(high, self._consumer.get_watermark_offsets(at, cached=True)[1])
        after = self._part(place)[1]
        if after is None or after > high:  # the broker goes to the oldest from beyond its end
            after = low
        reached = self._next.get(place, after)
        if place not in self._next and self._group is not None:
            reached = self._consumer.committed([at], timeout=self._timeout_s)[0].offset
        return max(0, high - max(low, reached))

    def _at(self, place: tuple[str, int], offset: int | None = None) -> Any:
        if offset is None:
            return self._kafka.TopicPartition(*place)
        return self._kafka.TopicPartition(*place, offset)

    def _note(self, error: Any) -> None:
        self._broken = str(error)

    @contextmanager
    def _failing(self, purpose: str) -> Iterator[None]:
        try:
            yield
        except self._kafka.KafkaException as error:
            why = f"{error}; {self._broken}" if self._broken else str(error)
            raise JournalError(f"{self._place}: cannot {purpose}: {why}") from error
        except RuntimeError as error:  # the library's word for a consumer that was closed
            if isinstance(error, JournalError):
                raise
            raise JournalError(f"{self._place}: cannot {purpose}: {error}") from error


def _read(found: Any, topic: Topic, part: str) -> Message:
    headers: dict[str, bytes] = dict(found.headers() or ())
    body = found.value() or b""
    try:
        about = int(found.key())
        named = headers["key"].decode()
    except (TypeError, ValueError, AttributeError, KeyError):
        about, named = _about(body), f"{part}/{found.offset()}"
    if about not in _INT64:
        about = 0
    return Message(topic, named, about, body, (part, found.offset() + 1))


def _about(body: bytes) -> int:
    """The post that a message speaks of that another program wrote; 0 = nobody can tell."""
    try:
        return int(json.loads(body)["post_id"])
    except (TypeError, ValueError, KeyError, RecursionError):
        return 0

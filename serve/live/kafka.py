"""The journal in Kafka: one topic of the broker for each of ours, shared by many machines.

Needs the package confluent-kafka, which is imported when the journal is made.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from configs import Config
from serve.live.journal import JournalError, check_topics
from serve.live.kafka_reader import KafkaReader
from serve.live.messages import TOPICS, Message, Topic

_log = logging.getLogger(__name__)
_MAX_KEYS = 100_000  # that one process remembers to have written
_SECRETS = ("password", "secret", "token", "passphrase", "key.pem")


class KafkaSettings(Config):
    """Settings of the journal in Kafka; a user's name and password come from the environment.

    RAYFEED_KAFKA_USERNAME and RAYFEED_KAFKA_PASSWORD become sasl.username and sasl.password.
    """

    kind: Literal["kafka"] = "kafka"
    brokers: str = "localhost:9092"  # host:port of some, by commas
    topic_prefix: str = "rayfeed."  # before posts and engagements; also begins names of groups
    append_timeout_s: PositiveFloat = 10.0  # after it, what is not acknowledged has failed
    request_timeout_s: PositiveFloat = 5.0  # of every other question to the broker
    session_timeout_s: PositiveFloat = 30.0  # a group's reader silent for so long is replaced
    # Of topics that are made here; what exists is left as it is.
    num_partitions: PositiveInt = 8  # at most so many readers share the work; never change it later
    replication: int = -1  # copies of each message; -1 = what the broker is set to
    keep_days: PositiveFloat = 7.0
    # Settings of librdkafka by their own names, such as security.protocol.
    extra: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @field_validator("extra")
    @classmethod
    def _no_secrets(cls, extra: dict[str, Any]) -> dict[str, Any]:
        secret = [name for name in extra if name.endswith(_SECRETS)]
        if secret:
            raise ValueError(
                f"{secret[0]}: secrets do not belong in a file; set RAYFEED_KAFKA_PASSWORD"
            )
        return extra

    def client(self) -> dict[str, Any]:
        """What every client of the broker is made with."""
        names = {
            "sasl.username": "RAYFEED_KAFKA_USERNAME",
            "sasl.password": "RAYFEED_KAFKA_PASSWORD",
        }
        secrets = {key: os.environ[name] for key, name in names.items() if os.environ.get(name)}
        # Of a broker that is away the library logs every try; JournalError says it once.
        return {"bootstrap.servers": self.brokers, "log_level": 2} | self.extra | secrets


class KafkaJournal:
    """Writes what happened to a broker, and waits until all its copies are written.

    The client library sends again what was not acknowledged, and so may a caller after
    JournalError. A message may then be there twice, and readers know it by its name. The broker is
    not asked to tell (`enable.idempotence`): tansu notes a batch's number before it writes the
    batch, and if it dies in between it acknowledges what is not there.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        """Prepare to write; no broker is asked yet.

        Raises:
            JournalError: the package confluent-kafka is missing.
            ValueError: a setting in `extra` that librdkafka does not take.
        """
        self._settings = settings
        self._kafka = _library()
        self._lock = threading.Lock()
        self._written: OrderedDict[tuple[str, str], None] = OrderedDict()  # lately, oldest first
        self._topics_exist = False
        self._closed = threading.Event()
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._deliver, name="journal", daemon=True)
        self._thread.start()

    def append(self, messages: Sequence[Message]) -> list[bool]:
        """As in Journal; whether a message is new is known of what this process wrote lately."""
        if self._closed.is_set():
            raise self._error("write", "the journal is closed")
        self._make_topics()
        with self._lock:
            known = {m.name for m in messages if m.name in self._written}
        fresh: dict[tuple[str, str], Message] = {}
        news = []
        for message in messages:
            news.append(message.name not in known and message.name not in fresh)
            if news[-1]:
                fresh[message.name] = message
        if fresh:
            self._send(list(fresh.values()))
        with self._lock:
            self._written.update(dict.fromkeys(fresh))
            while len(self._written) > _MAX_KEYS:
                self._written.popitem(last=False)
        return news

    def reader(
        self,
        topics: Sequence[Topic],
        group: str | None = None,
        after: Mapping[str, int] | None = None,
    ) -> KafkaReader:
        """As in Journal: readers of a group share the partitions, and what one id did with them."""
        check_topics(topics, group, after)
        settings = self._settings
        group_name = None if group is None else f"{settings.topic_prefix}{group}"
        names = {settings.topic_prefix + topic: topic for topic in dict.fromkeys(topics)}
        return KafkaReader(
            self._kafka,
            settings.client()
            | {"session.timeout.ms": int(settings.session_timeout_s * 1000)}
            | ({} if group_name is None else {"group.id": group_name}),
            names,
            group_name,
            after or {},
            settings.request_timeout_s,
            self._make_topics,
        )

    def identity(self) -> str:
        """As in Journal: the cluster's own name, and which of its topics."""
        from confluent_kafka.admin import AdminClient

        settings = self._settings
        try:
            admin = AdminClient(settings.client(), logger=_log)
            cluster = admin.list_topics(timeout=settings.request_timeout_s).cluster_id
        except self._kafka.KafkaException as error:
            raise self._error("ask which cluster it is", error) from error
        return f"{cluster}/{settings.topic_prefix}"

    def close(self) -> None:
        """As in Journal."""
        self._closed.set()
        self._thread.join()
        self._producer.flush(self._settings.append_timeout_s)

    def _send(self, messages: Sequence[Message]) -> None:
        sent = _Sent(len(messages))
        try:
            for message in messages:
                self._producer.produce(
                    self._settings.topic_prefix + message.topic,
                    key=str(message.about).encode(),
                    value=message.body,
                    headers={"key": message.key.encode()},
                    on_delivery=sent.delivered,
                )
        except (BufferError, self._kafka.KafkaException) as error:
            raise self._error("write", error) from error
        # The library gives up by itself; a little longer, lest it be outrun.
        answered = sent.all.wait(self._settings.append_timeout_s + 2.0)
        if not answered or sent.error is not None:
            late = f"no answer within {self._settings.append_timeout_s} s"
            raise self._error("write", sent.error or late)

    def _deliver(self) -> None:
        """Tell waiting callers what became of their messages."""
        while not self._closed.is_set():
            self._producer.poll(0.1)

    def _new_producer(self) -> Any:
        asked = self._settings.client() | {
            "acks": "all",
            "enable.idempotence": False,
            "max.in.flight": 1,  # what is sent again does not fall behind what came after it
            "linger.ms": 2,
            "delivery.timeout.ms": int(self._settings.append_timeout_s * 1000),
        }
        try:
            return self._kafka.Producer(asked, logger=_log)
        except self._kafka.KafkaException as error:
            raise ValueError(f"kafka journal: {error.args[0].str()}") from None

    def _make_topics(self) -> None:
        """Make the topics that are missing, once; while that fails, nothing is written or read."""
        if self._topics_exist:
            return
        from confluent_kafka.admin import AdminClient, NewTopic

        settings = self._settings
        wanted = [settings.topic_prefix + topic for topic in TOPICS]
        try:
            admin = AdminClient(settings.client(), logger=_log)
            there = admin.list_topics(timeout=settings.request_timeout_s).topics
            missing = [
                NewTopic(
                    name,
                    num_partitions=settings.num_partitions,
                    replication_factor=settings.replication,
                    config={"retention.ms": str(int(settings.keep_days * 86_400_000))},
                )
                for name in wanted
                if name not in there
            ]
            waiting = {"request_timeout": settings.request_timeout_s}
            made = admin.create_topics(missing, **waiting) if missing else {}
            for future in made.values():
                error = future.exception()
                if error is not None and not self._exists(error):
                    raise error
        except self._kafka.KafkaException as error:
            raise self._error("make topics", error) from error
        self._topics_exist = True

    def _exists(self, error: BaseException) -> bool:
        code = self._kafka.KafkaError.TOPIC_ALREADY_EXISTS  # another process was quicker
        return isinstance(error, self._kafka.KafkaException) and error.args[0].code() == code

    def _error(self, purpose: str, why: object) -> JournalError:
        return JournalError(f"kafka at {self._settings.brokers}: cannot {purpose}: {why}")


class _Sent:
    """Waits for the answers to one request."""

    def __init__(self, num: int) -> None:
        self._open = num
        self._lock = threading.Lock()
        self.error: Any = None
        self.all = threading.Event()

    def delivered(self, error: Any, _: object) -> None:
        with self._lock:
            self.error = self.error or error
            self._open -= 1
            if self._open == 0:
                self.all.set()


def _library() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        raise JournalError(
            "the journal in Kafka needs confluent-kafka: pip install confluent-kafka, "
            "or install the extra `services`"
        ) from error
    return confluent_kafka

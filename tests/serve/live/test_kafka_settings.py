"""The journal in Kafka refuses wrong settings before it asks any broker."""

from __future__ import annotations

import sys

import pytest

from configs import ConfigError, check
from serve.live.journal import JournalError
from serve.live.kafka import KafkaJournal, KafkaSettings


def test_secrets_do_not_stand_in_files(monkeypatch: pytest.MonkeyPatch):
    """A password among the settings is an error that says where it belongs."""
    with pytest.raises(ConfigError, match="RAYFEED_KAFKA_PASSWORD"):
        check({"extra": {"sasl.password": "x"}}, KafkaSettings, "serve.yaml")
    monkeypatch.setenv("RAYFEED_KAFKA_USERNAME", "me")
    monkeypatch.setenv("RAYFEED_KAFKA_PASSWORD", "x")
    client = KafkaSettings(extra={"security.protocol": "SASL_SSL"}).client()
    assert client["sasl.username"] == "me"
    assert client["sasl.password"] == "x"
    assert client["security.protocol"] == "SASL_SSL"


def test_nothing_is_acknowledged_early_or_out_of_order(monkeypatch: pytest.MonkeyPatch):
    """All copies are waited for, one request is under way, and `extra` changes none of it."""
    library = pytest.importorskip("confluent_kafka")
    made: list[dict[str, object]] = []

    class Producer:
        def __init__(self, asked: dict[str, object], **_: object) -> None:
            made.append(asked)

        def poll(self, _: float) -> None: ...

        def flush(self, _: float) -> None: ...

    monkeypatch.setattr(library, "Producer", Producer)
    wished = {"acks": "0", "enable.idempotence": True, "max.in.flight": 5}
    KafkaJournal(KafkaSettings(extra=wished)).close()
    (asked,) = made
    assert {name: asked[name] for name in wished} == {
        "acks": "all",
        "enable.idempotence": False,
        "max.in.flight": 1,
    }


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without confluent-kafka the error says how to install it."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(JournalError, match="pip install confluent-kafka"):
        KafkaJournal(KafkaSettings())


def test_what_the_library_does_not_take_is_named():
    """A setting that librdkafka does not know is refused with its name."""
    pytest.importorskip("confluent_kafka")
    with pytest.raises(ValueError, match=r"no\.such\.setting"):
        KafkaJournal(KafkaSettings(extra={"no.such.setting": 1}))

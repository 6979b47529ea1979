"""The study of retrieval keeps what it has measured, whatever befalls one of its parts."""

from __future__ import annotations

import json

import pytest

from configs import ConfigError, check
from pipelines.data.reader import InputError
from train.studies import retrieval as module
from train.studies.content import Content
from train.studies.retrieval import RetrievalStudy, retrieval


def study(**parts: object) -> RetrievalStudy:
    """The settings of a study of these parts."""
    return check({"study": "retrieval", "report": "r", **parts}, RetrievalStudy, place="tests")


def test_a_part_that_fails_costs_no_other(tmp_path, monkeypatch, capsys):
    """The report holds the others; what is missing is said, and what failed is an error."""

    def broken(settings, seeds):
        raise IndexError("no such row")

    def missing(settings, seeds):
        raise InputError("fetch it")

    monkeypatch.setattr(module, "REPORTS", tmp_path)
    monkeypatch.setattr(module, "content", broken)
    monkeypatch.setattr(module, "cold_start", lambda settings, seeds: {"hr10": 0.5})
    monkeypatch.setattr(module, "next_visits", missing)
    visits = {"mine": {"data": "d.yaml", "run": {"name": "n", "learning": {"kind": "retrieval"}}}}

    with pytest.raises(ValueError, match=r"r\.md: written, but content failed"):
        retrieval(study(next_visits=visits, content={}, cold_start={}))
    record = json.loads((tmp_path / "r.json").read_text())

    assert record["mine"] == {"left_out": "fetch it"}
    assert record["content"] == {"failed": "IndexError('no such row')"}
    assert record["cold_start"] == {"hr10": 0.5}
    assert "no such row" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"content": {"relevant": "clik"}}, "'clik' is no action; did you mean 'click'"),
        ({"content": {"steps": ["states", "projected"]}}, "each once, and as in"),
        ({"content": {}, "seeds": [0, 0]}, "a seed twice is one run"),
    ],
)
def test_what_no_study_can_mean_is_refused_at_once(parts, message):
    """Before any data are read."""
    with pytest.raises(ConfigError, match=message):
        study(**parts)


def test_steps_may_be_left_out():
    """As long as the others keep their order."""
    assert Content(steps=("projected", "ids_and_text")).steps == ("projected", "ids_and_text")

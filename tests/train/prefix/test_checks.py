"""The verdicts of the study: each follows its number, and none is lost with another's condition."""

from __future__ import annotations

import json
import re

import pytest

from train.prefix.checks import checks
from train.prefix.objectives import CONDITIONS
from train.report import REPORTS


@pytest.fixture
def results() -> dict:
    """Those of the shipped report, which has every part and condition."""
    return json.loads((REPORTS / "prefix.json").read_text())


def naming(name: str, found: list[dict]) -> list[dict]:
    """Checks that are about a condition."""
    return [check for check in found if re.search(rf"\b{name}\b", check["check"])]


def test_every_condition_has_its_checks(results):
    """All that the report says is made from its own numbers, and is about every condition."""
    assert checks(results) == results["checks"]
    assert all(naming(name, results["checks"]) for name in CONDITIONS)


@pytest.mark.parametrize("name", ["v5_legacy", "inverted", "no_prefix", "uhmt"])
def test_a_condition_that_was_not_run_takes_no_other_check_away(results, name):
    """Without it, all checks that do not name it are still there."""
    about = naming(name, results["checks"])
    del results["clinc"]["conditions"][name]
    assert checks(results) == [check for check in results["checks"] if check not in about]


@pytest.mark.parametrize(
    ("name", "measure", "value", "check"),
    [
        ("v5_legacy", "s_500", 0.2, "S of v5_legacy, pool 500"),
        ("mrl", "s_2000", -0.02, "S of mrl, pool 2000"),
        ("inverted", "s_2000", 0.0, "S of inverted, pool 2000"),
        ("uhmt", "s_2000", 0.02, "S of uhmt, pool 2000"),
        ("uhmt", "s_2000", 0.04, "V5 above uhmt, in pooled SD"),
        ("own", "r_l0_first", 0.94, "R-precision L0@64 of own"),
        ("inverted", "s_r", -0.1, "S_R of inverted"),
        ("mrl", "s_r", 0.06, "S_R of mrl"),
        ("own", "l1_whole_train", 0.93, "L1@256 of own less that of MRL, training texts"),
        ("own", "s_2000", 0.2, "S of own, pool 2000"),
    ],
)
def test_a_number_past_its_bar_is_a_miss(results, name, measure, value, check):
    """What the report met is missed with another number in its place."""
    before, after = [], []
    for found in (before, after):
        found += [one["met"] for one in checks(results) if one["check"] == check]
        results["clinc"]["conditions"][name]["summary"][measure]["mean"] = value
    assert (before, after) == ([True], [False])

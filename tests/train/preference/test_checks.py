"""Verdicts on the committed record: each can fail, and none is given of what was not measured."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from train.preference.checks import checks, in_time
from train.preference.claims import claims
from train.report import REPORTS


@pytest.fixture
def record() -> dict[str, Any]:
    """The committed study's."""
    return json.loads((REPORTS / "preference.json").read_text())


def spoiled(values: Any) -> Any:
    """The same record with every number turned round and moved."""
    if isinstance(values, dict):
        return {key: spoiled(value) for key, value in values.items()}
    if isinstance(values, list):
        return [spoiled(value) for value in values]
    if isinstance(values, bool) or not isinstance(values, int | float):
        return values
    return -values - 1.0


def wrong(found: dict[str, Any]) -> dict[str, Any]:
    """A record whose results are all wrong; what cells and figures are of stays."""
    made = copy.deepcopy(found)
    made |= {key: spoiled(made[key]) for key in ("protocol", "audit", "real", "world")}
    for row in made["random_split"]["pairs"]:
        row["change"] = {key: value + 10 for key, value in row["change"].items()}
        row["cosine"]["trained"] += 10
    for row in made["random_split"]["by_loss"].values():
        row["mean"] += 10
    for by in made["random_split"]["matches"].values():
        by["trained"][0] = 0
    for of in made["sets"].values():
        for cell in of["decoupling"][0]["cells"]:
            cell["value"] = spoiled(cell["value"])
        of["decoupling"][0]["shares"] = spoiled(of["decoupling"][0]["shares"])
        for row in of["budget"].values():
            prices = {k: 1.0 for k in row if k.startswith("published_n")}
            row |= prices | {"norm_matched": spoiled(row["norm_matched"])}
        for row in of["by_loss"].values():
            row |= dict.fromkeys(row.keys() - {"accuracy"}) | {"mean": 0.0}
        for row in of["predictors"]["selections"].values():
            row["covariance"] |= {"share": 0.0, "low": 0.0}
        for row in of.get("constrained", ()):
            row |= {"cosine": None, "largest_difference": 0.0}
        wrong_ones = ("pairs", "levels", "curve", "matches", "geometric", "composition")
        of |= {key: spoiled(of[key]) for key in wrong_ones if key in of}
    return made


def test_every_check_can_fail(record):
    """Of wrong results no check is met, and there are as many as of right ones."""
    right, found = checks(record), checks(wrong(record))
    assert [of["check"] for of in found] == [of["check"] for of in right]
    assert sum(of["met"] for of in right) > 40
    assert [of["check"] for of in found if of["met"]] == []


def test_a_study_that_took_too_long_misses_its_bar():
    """Ten minutes on the wall are too many, whoever else used the machine."""
    assert [of["met"] for seconds in (599.0, 600.0) for of in in_time(seconds)] == [True, False]


def test_the_world_holds_its_bar(record):
    """The committed rankers of a made-up world mind a block by 0.3 more than a placebo, each."""
    met = {of["check"]: of["met"] for of in checks(record) if of["check"].startswith("D9")}
    assert list(met.values()) == [True, True]


def test_fewer_budgets_and_steps_leave_checks_out(record):
    """A study of other budgets and steps than the published ones is judged by what it has."""
    of = record["sets"]["ml_100k"]
    for row in of["budget"].values():
        row["pairs"] = [at + 1 for at in row["pairs"]]
    for cell in of["decoupling"][0]["cells"]:
        cell["steps"] += 1
    names = [check["check"] for check in checks(record)]
    assert not any("norm-matched" in name or name.startswith("D5") for name in names)
    assert any(name.startswith("D3") for name in names)


def test_no_claim_is_judged_without_its_sets(record):
    """Without MovieLens nothing is said of it."""
    record["sets"] = {"mind": record["sets"]["ml_100k"]}
    assert not any("MovieLens" in row["claim"] for row in claims(record))


def test_claims_follow_the_results(record):
    """Claims that do not hold hold again where the results say so, and the other way round."""
    before = {row["claim"]: row["holds"] for row in claims(record)}
    for of in record["sets"].values():
        for row in of["pairs"]:
            row["cosine"]["raw"] = row["cosine"]["trained"]
        for row in of["matches"].values():
            row["trained"] = [1, 1]
        of["matches"]["T=1"]["trained"] = [0, 1]
        of["decoupling"][0]["shares"]["value"]["steps_alone"] = 0.1
        for row in of["by_loss"].values():
            row["mean"] = 0.5
        of["budget_medians"]["published_n80"]["reached"] = 3
        for row in of["levels"]:
            row["many"] = row["few"] + row["raw"]
        of["levels"][0]["many"] = of["levels"][0]["few"] - of["levels"][0]["raw"]
        for row in of["geometric"].values():
            row["as_published"] = row["regret"]
        for row in of["predictors"]["selections"].values():
            row["trained"]["low"] = 0.99
    record["audit"]["flips_at"]["4"] = 0.0
    after = {row["claim"]: row["holds"] for row in claims(record)}
    assert before.keys() == after.keys()
    assert all(after[claim] != holds for claim, holds in before.items())

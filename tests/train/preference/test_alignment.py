"""The audit of weights: closed forms to 1e-4, and where a sign flips."""

from __future__ import annotations

import numpy as np
import pytest

from train.preference.alignment import (
    LOW_RISK,
    audit,
    closed_form,
    flips_at,
    risk,
    stakeholders,
    summary,
    vector,
)
from train.preference.protocol import audits
from train.preference.published import AUDIT_SWEEP, SCENARIOS
from train.preference.space import cosine
from train.preference.stakeholders.synthetic import NEGATIVE, action_weights

HARMFUL = {"favorite": 1.0, "reply": 1.0, "repost": 1.0, "share": 1.0, "follow_author": 1.0} | (
    dict.fromkeys(NEGATIVE, 0.5)
)


def test_published_cosines_come_out():
    """The sweep over the platform's alpha and the seven scenarios, to 1e-4."""
    found = audits()
    for alpha, wanted in AUDIT_SWEEP.items():
        assert found["sweep"][alpha] == pytest.approx(wanted, abs=1e-4)
    for name, wanted in SCENARIOS.items():
        ours = found["scenarios"][name]
        assert (ours["society"], ours["user"]) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("neutral", [0.0, 0.7])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_the_sign_flips_at_five_over_four_alpha(alpha, neutral):
    """Not at 0: a little weight on negative actions serves, whatever the neutral ones weigh."""
    wanted = action_weights(alpha)
    at = flips_at(action_weights(0.0, neutral), wanted)
    assert at == pytest.approx(5 / (4 * alpha))
    for step, sign in ((-1e-6, 1), (1e-6, -1)):
        assert np.sign(cosine(action_weights(-(at + step), neutral), wanted)) == sign


def test_the_closed_form_is_the_cosine():
    """(5 + 4 a b) over both norms, with neutral actions."""
    value = float(cosine(action_weights(0.3, 0.5), action_weights(4.0)))
    assert closed_form(0.3, 4.0, 0.5) == pytest.approx(value)


def test_an_audit_names_who_is_harmed_and_what_would_help():
    """Half a weight on being blocked harms society, and the safer weight brings it to low risk."""
    found = audit(vector(HARMFUL, "here"), stakeholders())
    assert (found["worst"], found["risk"]) == ("society", "goodhart")
    of = found["stakeholders"]["society"]
    assert of["low"] <= of["high"] < 0.1
    assert sum(of["contributions"].values()) == pytest.approx(of["cosine"])
    safer = of["safer"]
    assert safer["action"] == of["driver"]
    assert safer["action"] in NEGATIVE
    changed = vector(HARMFUL | {safer["action"]: safer["weight"]}, "here")
    after = audit(changed, stakeholders())["stakeholders"]
    assert after["society"]["cosine"] == pytest.approx(LOW_RISK)
    for name, change in safer["change"].items():
        before = found["stakeholders"][name]["cosine"]
        assert after[name]["cosine"] - before == pytest.approx(change)


def test_scale_weighs_actions_by_how_much_they_vary():
    """An action that never varies orders nothing, so its weight does not count."""
    still = np.ones(18)
    still[[action in NEGATIVE for action in vector_names()]] = 0
    found = audit(vector(HARMFUL, "here"), stakeholders(), still)
    assert found["stakeholders"]["society"]["cosine"] == pytest.approx(1.0)


def test_a_scale_that_leaves_nothing_is_refused():
    """Where no action that weighs anything varies there is no cosine, and that is said."""
    still = np.zeros(18)
    still[vector_names().index("click")] = 0.2
    with pytest.raises(ValueError, match="the weights: no action that counts varies"):
        audit(vector(HARMFUL, "here"), stakeholders(), still)


def vector_names():
    """Actions in the order of vectors."""
    return list(audit(vector(HARMFUL, "here"), stakeholders())["weights"])


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ({"favourite": 1.0}, "favourite: no such action; did you mean 'favorite'"),
        ({"favorite": "much"}, "favorite: 'much' is no number"),
        ({"favorite": float("nan")}, "is not finite"),
        ({"favorite": 10**400}, "is too large"),
        ({"dwell_time": 1.0}, "all weights are 0"),
        ({"favorite": 1e-200}, "all weights are 0"),
        ({True: 1.0}, "True: no such action"),
    ],
)
def test_wrong_weights_are_refused(weights, why):
    """A misspelt action, a word, a NaN, sizes without squares and no direction are errors."""
    with pytest.raises(ValueError, match=why):
        vector(weights, "here")


def test_levels_of_risk():
    """Below 0, up to 0.3, above."""
    assert [risk(value) for value in (-0.1, 0.1, 0.31)] == ["goodhart", "moderate", "low"]


def test_a_card_leaves_out_what_no_stakeholder_knows():
    """Extra actions of a reader do not stop the audit of a blend, and no weights give no risk."""
    assert summary({**HARMFUL, "saved": 3.0})["worst"] == "society"
    assert summary({"saved": 3.0}) == {"risk": None}

"""Experiments and a request's own settings make another feed, checked as strictly as the usual."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from configs import ConfigError, check
from pipelines.feed import variants
from pipelines.feed.discover import FeedConfig
from pipelines.feed.experiments import Experiment
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.waves import WiringError
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import World

WORLD = World()
FACTOR = "scorers.out_of_network.factor"


def half(name: str = "half", **settings: object) -> dict:
    """An experiment of two equal arms, one of which changes settings."""
    return {"arms": {"control": {"share": 0.5}, name: {"share": 0.5, "settings": settings}}}


def build(**settings: object) -> Pipeline:
    """The default feed with these settings."""
    return Pipeline.build(check(settings, FeedConfig, place="feed"))


def multipliers(pipeline: Pipeline, user_id: int = 1, **overrides: object) -> set[float]:
    """What posts from outside the viewer's network were multiplied by, and the arms."""
    query = replace(WORLD.query(user_id), overrides=overrides)
    return set(serve(pipeline, query, WORLD).scored["out_of_network_multiplier"].tolist())


def test_viewers_are_shared_out_as_asked_and_for_good():
    """Shares are met, an arm depends on viewer and salt alone, and another salt shares anew."""
    shares = {"a": {"share": 0.2}, "b": {"share": 0.5}, "c": {"share": 0.3}}
    first, again, salted = (
        check({"arms": shares, "salt": salt}, Experiment, place="e") for salt in (None, None, "x")
    )
    arms = [first.arm_of("e", user) for user in range(20_000)]

    for name, arm in shares.items():
        assert arms.count(name) / len(arms) == pytest.approx(arm["share"], abs=0.015)
    assert arms == [again.arm_of("e", user) for user in range(20_000)]
    same = np.mean([one == salted.arm_of("e", user) for user, one in enumerate(arms)])
    assert same == pytest.approx(0.2**2 + 0.5**2 + 0.3**2, abs=0.02)  # by chance


def test_an_arm_serves_its_settings():
    """Viewers of the arm get its feed, the others the usual one; the result says which."""
    pipeline = build(experiments={"oon": half(**{FACTOR: 0.25})})
    of = {user: serve(pipeline, WORLD.query(user), WORLD) for user in range(1, 13)}
    arms = {result.arms["oon"] for result in of.values()}

    assert arms == {"control", "half"}
    for result in of.values():
        factor = 0.25 if result.arms["oon"] == "half" else 0.75
        assert set(result.scored["out_of_network_multiplier"].tolist()) == {1.0, factor}


def test_viewers_are_shared_out_anew_while_pages_are_served():
    """Other experiments hold from the next page on, over a bundle's settings; wrong ones never."""
    pipeline = build(experiments={"oon": half(**{FACTOR: 0.25})})
    pipeline.adopt({"scorers.author_diversity.decay": 0.9})
    usual = pipeline.stages
    every = {"all": {"share": 1, "settings": {FACTOR: 0.5}}}
    pipeline.share_out({"new": check({"arms": every}, Experiment, place="e")})

    assert serve(pipeline, WORLD.query(), WORLD).arms == {"new": "all"}
    assert multipliers(pipeline) == {1.0, 0.5}
    assert repr(pipeline.stages) == repr(usual)
    every["all"]["settings"] = {FACTOR: -1}
    with pytest.raises(ConfigError, match=r"experiments\.new\.arms\.all"):
        pipeline.share_out({"new": check({"arms": every}, Experiment, place="e")})
    assert multipliers(pipeline) == {1.0, 0.5}


def test_a_request_may_change_what_is_allowed():
    """For itself alone; on top of its viewer's arm."""
    pipeline = build(allow=[FACTOR], experiments={"oon": half(**{FACTOR: 0.25})})

    assert multipliers(pipeline, **{FACTOR: 0.5}) == {1.0, 0.5}
    assert multipliers(pipeline) <= {1.0, 0.75, 0.25}


def test_an_arm_may_switch_a_component_off():
    """With null in the place of its settings."""
    experiment = {"arms": {"all": {"share": 1, "settings": {"filters.age": None}}}}
    result = serve(build(experiments={"old": experiment}), WORLD.query(), WORLD)

    assert "filters.age" not in result.dropped
    assert "filters.age" not in {component.key for component in result.components}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"filters.age.max_age_hours": 1}, "filters.age.max_age_hours: not a setting that a requ"),
        ({"scorers.out_of_network.factr": 1}, f"did you mean '{FACTOR}'"),
        ({FACTOR: -1}, f"{FACTOR}: Input should be greater than 0, got -1"),
        ({FACTOR: "much"}, f"{FACTOR}: Input should be a valid number"),
    ],
)
def test_what_a_request_may_not_change_is_refused(overrides, message):
    """With the setting, the value and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        multipliers(build(allow=[FACTOR]), **overrides)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"allow": ["scorers.out_of_network.factr"]}, ConfigError, f"did you mean '{FACTOR}'"),
        (
            {"experiments": {"e": {"arms": {"a": {"share": 0.4}, "b": {"share": 0.5}}}}},
            ConfigError,
            "shares add up to 0.9, expected 1",
        ),
        (
            {"experiments": {"e": half(**{"scorers.out_of_network.factr": 1})}},
            ConfigError,
            r"experiments\.e\.arms\.half: .*did you mean 'factor'",
        ),
        (
            {"experiments": {"e": half(**{"filtres.age.max_age_hours": 1})}},
            ConfigError,
            "did you mean 'filters'",
        ),
        (
            {"experiments": {"e": half(**{"filters.age": 3})}},
            ConfigError,
            "expected null, which switches it off, got 3",
        ),
        (
            {"filters": {"age": None}, "experiments": {"e": half(**{"filters.age.fails": 1})}},
            ConfigError,
            r"filters\.age is switched off",
        ),
        (
            {"experiments": {"e": half(**{"hydrators.post_facts": None})}},
            WiringError,
            r"experiments\.e\.arms\.half: .* which nothing provides",
        ),
        (
            {"experiments": {"e": half(**{FACTOR: 1}), "f": half(**{FACTOR: 2})}},
            ConfigError,
            f"e and f both change {FACTOR}",
        ),
    ],
)
def test_wrong_experiments_stop_start_up(settings, error, message):
    """Every arm is composed before the first request."""
    with pytest.raises(error, match=message):
        build(**settings)


def test_only_so_many_variants_are_kept(monkeypatch):
    """Whatever requests ask for, memory is bounded, and every answer is right."""
    monkeypatch.setattr(variants, "_KEPT", 4)
    pipeline = build(allow=[FACTOR])
    factors = np.linspace(0.1, 0.9, 7).tolist()
    seen = [multipliers(pipeline, **{FACTOR: factor}) for factor in factors[:3]]
    for factor in factors:
        pipeline._variants.of(replace(WORLD.query(), overrides={FACTOR: factor}))

    assert seen == [{1.0, factor} for factor in factors[:3]]
    assert len(pipeline._variants._kept) == 4

"""Controllers of one served number: what they promise whatever viewers do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import ConfigError, check
from train.online.arms import OnlineConfig, State, after, begin, read, save

METHODS = ("thompson", "gradient")
REWARD = st.floats(-1e6, 1e6, allow_nan=False)
PAGES = st.lists(REWARD, max_size=5).map(np.array)


def config(**given: object) -> OnlineConfig:
    """Settings, checked."""
    return check(given, OnlineConfig, place="test")


def play(settings: OnlineConfig, best: float, rounds: int, pages: int = 60) -> list[State]:
    """Rounds in which a page earns less the further its value is from `best`, with noise."""
    states = [begin(settings)]
    for at in range(rounds):
        rng = np.random.default_rng([1, at])
        state = states[-1]
        earned = {
            arm: rng.normal(1 - (value - best) ** 2, 0.3, max(1, round(pages * share)))
            for arm, (value, share) in enumerate(zip(state.values, state.shares, strict=True))
        }
        states.append(after(state, settings, earned))
    return states


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), low=st.floats(-50, 50), size=st.floats(0.01, 100))
@settings(max_examples=60, deadline=None)
def test_bounds_are_never_left(method, data, low, size):
    """Whatever pages earn, served values stay within the bounds and shares add up to 1."""
    moved = config(method=method, low=low, high=low + size, rate=50.0)
    state = begin(moved)
    for _ in range(6):
        assert all(moved.low <= value <= moved.high for value in state.values)
        assert moved.low <= state.best <= moved.high
        experiment = state.experiment(moved)  # refuses shares that do not add up
        assert min(arm.share for arm in experiment.arms.values()) >= moved.floor - 1e-4
        arms = range(len(state.values))
        rewards = data.draw(st.dictionaries(st.sampled_from(arms), PAGES))
        state = after(state, moved, rewards)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("best", [0.0, 0.3, 1.0])
def test_the_best_value_is_found(method, best):
    """After thirty rounds of sixty pages the value is near the best, at the bounds too."""
    last = play(config(method=method, num_arms=6, width=0.1), best, rounds=30)[-1]

    assert abs(last.best - best) <= 0.2
    assert abs(np.dot(last.values, last.shares) - best) < 0.3


def test_a_value_that_is_no_worse_keeps_being_tried():
    """Where all values earn the same, Thompson ends no arm: the least share is the floor's."""
    flat = config(num_arms=4, floor=0.05)
    state = begin(flat)
    for _ in range(20):
        state = after(state, flat, {arm: np.ones(10) for arm in range(4)})

    assert min(state.shares) > 0.05
    assert state.num == (200,) * 4


@pytest.mark.parametrize("method", METHODS)
def test_a_restart_changes_nothing(method, tmp_path: Path):
    """A state that was written and read goes on to the very same states."""
    settings = config(method=method)
    states = play(settings, 0.4, rounds=8)
    save(tmp_path / "state.json", states[4], settings)
    again = read(tmp_path / "state.json", settings)

    assert again == states[4]
    rewards = {0: np.array([1.0, 2.0]), 1: np.array([0.5])}
    assert after(again, settings, rewards) == after(states[4], settings, rewards)


def test_moments_are_those_of_all_pages():
    """Counts, means and squared deviations over rounds equal those of all pages at once."""
    settings = config(num_arms=2, floor=0.1)
    earned = np.random.default_rng(0).normal(3.0, 2.0, (5, 40))
    state = begin(settings)
    for one in earned:
        state = after(state, settings, {1: one})

    assert state.num == (0, 200)
    assert state.mean[1] == pytest.approx(earned.mean())
    assert state.squares[1] == pytest.approx(np.square(earned - earned.mean()).sum())


def test_viewers_move_between_arms_from_round_to_round():
    """Within a round a viewer has one arm; over rounds, arms do not keep their viewers."""
    settings = config(num_arms=2, floor=0.1)
    one = begin(settings)
    two = after(one, settings, {0: np.ones(3), 1: np.ones(3)})
    users = range(400)
    first, again, second = (
        [s.experiment(settings).arm_of("alpha", user) for user in users] for s in (one, one, two)
    )

    assert first == again
    moved = np.mean([a != b for a, b in zip(first, second, strict=True)])
    assert 0.3 < moved < 0.7


def test_another_controllers_state_is_refused(tmp_path: Path):
    """The file, the setting and both values are named."""
    file = tmp_path / "state.json"
    save(file, begin(config()), config())

    with pytest.raises(ValueError, match=r"state\.json: was begun with high 1\.0, not 2\.0"):
        read(file, config(high=2.0))
    file.write_text("{}")
    with pytest.raises(ValueError, match="not the state of a controller"):
        read(file, config())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"values": [99.0]},
        {"mean": [float("nan")]},
        {"shares": [0.5]},
        {"num": [-1]},
        {"round": "two"},
    ],
)
def test_a_state_that_no_controller_left_is_refused(method, wrong, tmp_path: Path):
    """Numbers out of bounds, missing or no numbers are told; none of them is served."""
    settings = config(method=method)
    path = tmp_path / "state.json"
    save(path, begin(settings), settings)
    record = json.loads(path.read_text())
    for name, value in wrong.items():
        there = record["state"][name]
        new = value * (len(there) if name != "shares" else 1) if isinstance(value, list) else value
        record["state"][name] = new
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"state\.json: not (a|the) state of"):
        read(path, settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 1.0, "high": 1.0}, "low 1 must be below high 1"),
        ({"num_arms": 5, "floor": 0.2}, "floor 0.2 of 5 arms is all there is"),
        ({"reward": {"favourite": 1.0}}, "did you mean 'favorite'"),
    ],
)
def test_wrong_settings_are_refused(given, message):
    """Bounds that hold nothing, a floor that leaves nothing, an action that is none."""
    with pytest.raises(ConfigError, match=message):
        config(**given)


def test_wrong_rewards_are_refused():
    """An arm that is not there, and what is no number."""
    with pytest.raises(ValueError, match="no such arm: 9 of 7"):
        after(begin(config()), config(), {9: np.ones(2)})
    with pytest.raises(ValueError, match="arm_0: must be finite"):
        after(begin(config()), config(), {0: np.array([np.nan])})

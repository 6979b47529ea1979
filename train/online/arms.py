"""Values that are tried on viewers at the same time, and what the next ones are.

A round shares viewers out among arms, each of which serves one value; what their pages earned
makes the next round. `thompson` keeps a grid of values and serves each as often as it is likely
to be the best one (Thompson 1933, with normal posteriors of mean rewards). `gradient` serves two
values around a centre and moves the centre towards the better one, with steps and distances that
shrink (Kiefer and Wolfowitz 1952). Both are functions of the state, which is one JSON file: a
controller that is killed goes on as if it had not been.

Axes: K arms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, PositiveInt, field_validator, model_validator

from configs import Config, near_miss
from pipelines.feed.experiments import Arm, Experiment
from pipelines.schema import ACTION_NAMES
from pipelines.whole import save_json

Floats = NDArray[np.float64]
_DRAWS = 20_000  # of the posteriors, for the chance that an arm is the best
_LONGEST = 0.25  # step of the gradient, as a share of the range


class OnlineConfig(Config):
    """Which setting is moved, within which bounds, by what."""

    name: str = "alpha"  # of the experiment
    setting: str = "scorers.interference.alpha"  # stage.component.setting of a feed.yaml
    # Settings that go with it in every arm, such as what switches it on.
    beside: dict[str, Any] = Field(default={})
    low: FiniteFloat = 0.0  # no value outside of these two is ever served
    high: FiniteFloat = 1.0
    method: Literal["thompson", "gradient"] = "thompson"
    num_arms: PositiveInt = Field(default=7, ge=2)  # of thompson, evenly spaced over the bounds
    floor: float = Field(default=0.02, gt=0, lt=0.5)  # of thompson: no arm gets less of the viewers
    width: float = Field(default=0.2, gt=0, le=0.5)  # of gradient: from the centre to an arm, first
    rate: float = Field(default=0.5, gt=0)  # of gradient: first step, per reward's deviation
    reward: dict[str, FiniteFloat] = Field(default={"favorite": 1.0}, min_length=1)  # by action
    seed: int = 0

    @field_validator("reward")
    @classmethod
    def _actions(cls, reward: dict[str, float]) -> dict[str, float]:
        for name in reward:
            if name not in ACTION_NAMES:
                raise ValueError(f"{name}: no such action{near_miss(name, ACTION_NAMES)}")
        return reward

    @model_validator(mode="after")
    def _bounds(self) -> OnlineConfig:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.method == "thompson" and self.floor * self.num_arms >= 1:
            raise ValueError(f"floor {self.floor:g} of {self.num_arms} arms is all there is")
        return self


@dataclass(frozen=True)
class State:
    """What a controller knows, and what it serves.

    Attributes:
        round: rounds that are over.
        values: served in this round, one an arm. [K].
        shares: of the viewers, which sum to 1. [K].
        num: pages that each arm earned by, of thompson in all rounds. [K].
        mean: reward of a page. [K].
        squares: sums of squared deviations from the mean. [K].
        centre: of gradient, between both arms; None for thompson.
        since_ms: pages shown from here on belong to this round.
    """

    round: int
    values: tuple[float, ...]
    shares: tuple[float, ...]
    num: tuple[int, ...]
    mean: tuple[float, ...]
    squares: tuple[float, ...]
    centre: float | None
    since_ms: int = 0

    def experiment(self, config: OnlineConfig) -> Experiment:
        """The round, as a feed.yaml has it; viewers are shared out anew each round.

        A viewer who stayed in an arm for good would be taken for its effect.
        """
        return Experiment(
            salt=f"{config.name}-{self.round}",
            arms={
                name_of(at): Arm(share=share, settings={**config.beside, config.setting: value})
                for at, (value, share) in enumerate(zip(self.values, self.shares, strict=True))
            },
        )

    @property
    def best(self) -> float:
        """The value to serve if nothing more were to be learned."""
        if self.centre is not None:
            return self.centre
        known = np.where(np.array(self.num) > 0, self.mean, -np.inf)
        return self.values[int(known.argmax())]


def name_of(arm: int) -> str:
    """Of an arm, by its place among `State.values`."""
    return f"arm_{arm}"


def begin(config: OnlineConfig, since_ms: int = 0) -> State:
    """The first round: thompson serves all values alike, gradient begins in the middle."""
    if config.method == "thompson":
        num = config.num_arms
        values = tuple(np.linspace(config.low, config.high, num).tolist())
        none = (0.0,) * num
        return State(0, values, (1 / num,) * num, (0,) * num, none, none, None, since_ms)
    return _both(config, (config.low + config.high) / 2, 0, since_ms)


def after(
    state: State, config: OnlineConfig, rewards: Mapping[int, Floats], since_ms: int = 0
) -> State:
    """The next round.

    Args:
        state: of the round that is over.
        config: that it was made by.
        rewards: arm -> what each of its pages earned; arms without pages may be left out.
        since_ms: when the next round begins.

    Raises:
        ValueError: no such arm, or a reward that is not finite.
    """
    for arm, earned in rewards.items():
        if not 0 <= arm < len(state.values):
            raise ValueError(f"rewards: no such arm: {arm} of {len(state.values)}")
        if not np.isfinite(earned).all():
            raise ValueError(f"rewards of {name_of(arm)}: must be finite")
    if config.method == "thompson":
        return _thompson(state, config, rewards, since_ms)
    return _gradient(state, config, rewards, since_ms)


def _thompson(
    state: State, config: OnlineConfig, rewards: Mapping[int, Floats], since_ms: int
) -> State:
    """Serve each value as often as it is likely to be the best."""
    num, mean, squares = (np.array(x, float) for x in (state.num, state.mean, state.squares))
    for arm, earned in rewards.items():
        num[arm], mean[arm], squares[arm] = _with(num[arm], mean[arm], squares[arm], earned)
    deviation = math.sqrt(squares.sum() / max(1, num.sum() - len(num)))
    # One page at the overall mean is known of each arm, and of a world without differences all.
    overall = float((num * mean).sum() / max(1, num.sum()))
    centre = (num * mean + overall) / (num + 1)
    rng = np.random.default_rng([config.seed, state.round])
    noise = rng.standard_normal((_DRAWS, len(num)))
    drawn = centre + deviation / np.sqrt(num + 1) * noise
    if deviation == 0:
        drawn = centre + 1e-12 * noise  # ties are drawn for
    won = np.bincount(drawn.argmax(1), minlength=len(num)) / _DRAWS
    shares = config.floor + (1 - config.floor * len(num)) * won
    return replace(
        state,
        round=state.round + 1,
        shares=tuple(_whole(shares)),
        num=tuple(num.astype(int).tolist()),
        mean=tuple(mean.tolist()),
        squares=tuple(squares.tolist()),
        since_ms=since_ms,
    )


def _gradient(
    state: State, config: OnlineConfig, rewards: Mapping[int, Floats], since_ms: int
) -> State:
    """Step towards the better of two values; without pages in both the centre stays."""
    assert state.centre is not None
    centre, step = state.centre, state.round + 1
    left, right = (np.asarray(rewards.get(arm, ()), float) for arm in (0, 1))
    if len(left) and len(right):
        deviation = float(np.concatenate([left - left.mean(), right - right.mean()]).std())
        apart = (state.values[1] - state.values[0]) / (config.high - config.low)
        slope = (right.mean() - left.mean()) / (apart * deviation) if deviation else 0.0
        moved = np.clip(config.rate * slope / math.sqrt(step), -_LONGEST, _LONGEST)
        centre += float(moved) * (config.high - config.low)
    return _both(config, centre, step, since_ms)


def _both(config: OnlineConfig, centre: float, step: int, since_ms: int) -> State:
    """A round of gradient; the centre gives way so that both values stay within the bounds."""
    half = config.width * (config.high - config.low) / (step + 1) ** (1 / 6)
    centre = min(max(centre, config.low + half), config.high - half)
    low, high = max(config.low, centre - half), min(config.high, centre + half)
    none = (0.0, 0.0)
    middle = (low + high) / 2
    return State(step, (low, high), (0.5, 0.5), (0, 0), none, none, middle, since_ms)


def _with(num: float, mean: float, squares: float, more: Floats) -> tuple[float, float, float]:
    """Count, mean and squared deviations with further values (Chan, Golub, LeVeque 1983)."""
    if not len(more):
        return num, mean, squares
    total, apart = num + len(more), more.mean() - mean
    inside = float(np.square(more - more.mean()).sum())
    return (
        total,
        float(mean + apart * len(more) / total),
        float(squares + inside + apart**2 * num * len(more) / total),
    )


def _whole(shares: Floats) -> list[float]:
    """The same, to four digits, with a sum of 1 to the last bit."""
    rounded = [round(float(share), 4) for share in shares]
    most = int(np.argmax(rounded))
    rounded[most] = 0.0
    rounded[most] = round(1 - math.fsum(rounded), 4)
    return rounded


def save(path: Path, state: State, config: OnlineConfig) -> None:
    """Write the state beside the settings it was made by; whole or not at all."""
    save_json(path, {"config": config.model_dump(mode="json"), "state": asdict(state)})


def read(path: Path, config: OnlineConfig) -> State:
    """The state that `save` wrote.

    Raises:
        ValueError: the file is not one, or was written by other settings.
    """
    try:
        record = json.loads(path.read_text())
        before, told = dict(record["config"]), record["state"]
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        state = State(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the state of a controller: {error}") from error
    now = config.model_dump(mode="json")
    if changed := [name for name in now if before.get(name) != now[name]]:
        name = changed[0]
        raise ValueError(
            f"{path}: was begun with {name} {before.get(name)!r}, not {now[name]!r}; "
            "take another name, or remove the file to begin anew"
        )
    if not _fits(state, config):
        raise ValueError(f"{path}: not a state of this controller: numbers that do not fit; remove")
    return state


def _fits(state: State, config: OnlineConfig) -> bool:
    """Whether a state is one that `begin` and `after` can have made."""
    try:
        numbers = [state.values, state.shares, state.num, state.mean, state.squares]
        table = np.array(numbers, np.float64)
        one = np.array([state.round, state.since_ms, state.centre or 0.0], np.float64)
    except (ValueError, TypeError):
        return False
    arms = config.num_arms if config.method == "thompson" else 2
    if table.shape != (5, arms) or not (np.isfinite(table).all() and np.isfinite(one).all()):
        return False
    values, shares, num, _, squares = table
    inside = (values >= config.low) & (values <= config.high)
    whole = abs(shares.sum() - 1) < 1e-9 and (shares > 0).all() and (num >= 0).all()
    centred = (state.centre is None) == (config.method == "thompson")
    return bool(inside.all() and whole and (squares >= 0).all() and centred)

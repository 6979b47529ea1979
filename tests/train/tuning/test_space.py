"""What a search's settings may say, and what may be drawn from its space."""

from __future__ import annotations

import pytest

from configs import ConfigError, check
from tests.train.tuning.test_study import config
from train.tuning.settings import BlendSearch, Bound, RunSearch
from train.tuning.space import distributions, sample


def test_bound_by_hand():
    """Above 0 = outside, the worse of both ends."""
    bound = Bound(at_least=1.0, at_most=3.0)

    assert [bound.excess(x) for x in (0.5, 1.0, 2.0, 3.5)] == [0.5, 0.0, -1.0, 0.5]


@pytest.mark.parametrize(
    "where", [{"step": 0.3}, {"step": 0.6}, {"scale": "integer", "high": 10, "step": 4}, {}]
)
def test_samples_are_what_trials_may_draw(where):
    """No sample is above the range, or between its steps."""
    values = {"kind": "blend", "name": "t", "space": {"a": {"low": 0, "high": 1, **where}}}
    space = check(values, BlendSearch, place="test").space
    (allowed,) = distributions(space).values()

    drawn = [sample(space, seed)["a"] for seed in range(40)]

    assert len(set(drawn)) > 1
    for value in drawn:
        assert allowed._contains(allowed.to_internal_repr(value))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"objectives": {"ncdg_10": "maximize"}}, "did you mean 'ndcg_10'?"),
        ({"constraints": {"value_1": {"at_least": 0}}}, "did you mean 'value_10'?"),
        ({"relevant": "favourite"}, "did you mean 'favorite'?"),
        (
            {"constraints": {"value_10": {"at_least": 2, "at_most": 1}}},
            "nothing is at_least 2 and at_most 1",
        ),
        ({"constraints": {"value_10": {"at_least": float("nan")}}}, "finite number"),
        ({"write": "artifacts/../artifacts/bundle"}, "is the bundle that is tuned"),
        ({"name": "../hill"}, "name: String should match pattern"),
        ({"name": ""}, "name: String should match pattern"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"space": {"weights.reply": {"low": 0, "high": float("inf")}}}, "finite number"),
        ({"space": {"weights.reply": {"low": 0, "high": 1, "step": 2}}}, "beyond high 1.0"),
        ({"num_trails": 3}, "num_trails: no such setting; did you mean 'num_trials'?"),
        (
            {"sampler": {"kind": "cmaes"}, "space": {"weights.reply": {"choices": [1, 2]}}},
            "moves numbers, and the space has none",
        ),
    ],
)
def test_wrong_settings_name_the_near_miss(tmp_path, wrong, said):
    """A search that cannot work is refused, and the text says what is allowed."""
    with pytest.raises(ConfigError) as error:
        config(tmp_path, **wrong)
    assert said in str(error.value)


def test_bounds_of_a_run_are_absolute():
    """No run is made with its own settings, so none can be counted in what they give."""
    values = {"name": "t", "run": "r", "space": {"a": {"choices": [1, 2]}}}
    relative = {"val_loss": {"at_most": 1.0, "of_default": True}}
    with pytest.raises(ConfigError, match="of_default"):
        check(values | {"constraints": relative}, RunSearch, place="test")


def test_distributions_take_lists():
    """A choice of lists goes through Optuna as text and comes back as lists."""
    space = check(
        {
            "name": "t",
            "kind": "blend",
            "space": {"interference.field.quantiles": {"choices": [None, [0.9, 0.5]]}},
        },
        BlendSearch,
        place="test",
    ).space
    (where,) = space.values()
    (made,) = distributions(space).values()

    assert [where.value(choice) for choice in made.choices] == [None, [0.9, 0.5]]

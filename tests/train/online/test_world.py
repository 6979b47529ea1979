"""The closed loop, small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from configs import check
from pipelines.data.synthetic import World
from train.online.simulate import SimulationConfig, main, results, simulate
from train.online.world import Loop, LoopConfig, word_vectors

SMALL = {
    "world": {"num_users": 60, "num_posts": 900, "num_authors": 30, "num_events": 2000},
    "num_rounds": 6,
    "num_candidates": 40,
}


@pytest.fixture(scope="module")
def loop_of():
    """Makes runs of one small world."""
    config = check(SMALL, LoopConfig, place="test")
    world = World.make(config.world)
    vectors = word_vectors(world.posts["text"].to_pylist(), config.width, 0)
    return lambda seed=0: Loop(config, world, vectors, seed)


def test_the_same_alpha_gives_the_same_run(loop_of):
    """Two runs of one seed are equal; another seed has other luck."""
    runs = [[loop.serve(0.5) for _ in range(3)] for loop in map(loop_of, (0, 0, 1))]

    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0][0], runs[2][0][0])


def test_pages_hold_nothing_twice_and_nothing_unpublished(loop_of):
    """Every round shows each viewer ten posts more, all of them written before."""
    loop = loop_of()
    before = loop.seen.sum(1)
    for _ in range(4):
        loop.serve(0.2)

    np.testing.assert_array_equal(loop.seen.sum(1) - before, 4 * 10)
    shown = np.flatnonzero(loop.shown[0] > 0)
    assert loop.world.posts["created_at_ms"].to_numpy()[shown].max() < loop._now_ms()


def test_the_field_finds_what_viewers_like(loop_of):
    """α above 0 earns more favorites than none: likes come back as better pages."""
    none, some = (
        np.mean([loop.serve(a)[1].mean() for _ in range(6)])
        for a, loop in ((0.0, loop_of()), (1.0, loop_of()))
    )

    assert some > 1.1 * none


def test_the_expectation_is_that_of_what_viewers_do(loop_of):
    """Over many pages favorites differ from what the oracle expects by chance alone."""
    loop = loop_of()
    done, expected = np.array([loop.serve(0.5) for _ in range(6)]).swapaxes(0, 1)

    error = (done - expected).ravel()
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)


def test_the_simulation_writes_its_report(tmp_path: Path):
    """Rows of all ways, the oracle above all fixed values, bounds kept, page and plot."""
    given = {"loop": SMALL, "seeds": [3]}
    config = check(given, SimulationConfig, place="test")
    found = results(simulate(config), config)
    rows = found["favorites_a_page"]

    assert list(rows) == ["no field", "equal shares", "gradient", "thompson", "oracle"]
    assert rows["oracle"]["mean"] == max(
        row["favorites_a_page"] for row in found["fixed_alpha"].values()
    )
    assert rows["no field"]["share_of_the_gain"] == 0
    assert found["bounds_kept"]

    loop = [f"loop.{k}={v}" for k, v in SMALL.items() if k != "world"]
    world = [f"loop.world.{k}={v}" for k, v in SMALL["world"].items()]
    assert main([*loop, *world, "seeds=[3]", f"reports={tmp_path}"]) == 0
    assert json.loads((tmp_path / "online.json").read_text())["favorites_a_page"] == rows
    assert "(online.png)" in (tmp_path / "online.md").read_text()
    assert (tmp_path / "online.png").stat().st_size > 10_000

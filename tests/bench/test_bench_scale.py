"""What the bench of scaling says of what it saw, and how its servers end."""

import sys

import pytest

from tests.bench.bench_scale import followed
from tests.bench.serving import DAG, _running, config_of
from tests.bench.two_replicas import cpu_ms, summary


def _seen(*states: tuple[float, int, int]) -> list[dict[str, float]]:
    return [
        {"at_s": at_s, "wanted": float(wanted), "running": float(running)}
        for at_s, wanted, running in states
    ]


def test_times_to_scale_count_from_the_steps():
    """A replica is asked for and serves so long after the load rose, and goes after it fell."""
    seen = _seen((0, 1, 1), (12, 2, 1), (15, 2, 2), (22, 2, 2), (27, 1, 1))
    assert followed(seen, 0, 10, 20) == {
        "second replica asked for after s": 2,
        "second replica serves after s": 5,
        "one replica again after s": 7,
    }


@pytest.mark.parametrize(
    ("states", "told"),
    [
        pytest.param([(0, 1, 1), (12, 1, 1), (25, 1, 1)], [None, None, None], id="never came"),
        pytest.param([(1, 2, 2), (12, 2, 2), (25, 1, 1)], [None, None, 5], id="there before"),
        pytest.param([(1, 1, 1), (12, 2, 2), (25, 2, 2)], [2, 2, None], id="never went"),
        pytest.param([(1, 1, 1), (12, 2, 1), (25, 1, 1)], [2, None, None], id="never served"),
        pytest.param(
            [(1, 1, 1), (12, 2, 2), (21, 2, 1), (25, 2, 2), (30, 1, 1)],
            [2, 2, 10],
            id="asked again",
        ),
        pytest.param(
            [(1, 1, 1), (12, 2, 1), (21, 2, 1), (23, 2, 2), (29, 1, 1)], [2, 13, 9], id="late"
        ),
    ],
)
def test_replicas_that_do_not_follow_are_told(states, told):
    """What did not happen has no time, and what came late went only after it had come."""
    assert list(followed(_seen(*states), 0, 10, 20).values()) == told


def test_a_second_replica_is_held_against_a_second_process():
    """Ratios are of one round, and so is their share of what the machine gives."""
    rates = {"1 plain": [10, 5], "2 plain": [20, 8], "1 replicas": [8, 4], "2 replicas": [12, 8]}
    found = summary({name: list(map(float, each)) for name, each in rates.items()})
    assert found["ratios"] == [1.5, 2.0]
    assert found["ratios of plain processes"] == [2.0, 1.6]
    assert found["share of the limit"] == pytest.approx((0.75 + 1.25) / 2)


def test_a_ranking_costs_what_replicas_and_their_client_used():
    """What all else of the machine used is no part of it."""
    used = {"replica 1": 0.6, "replica 2": 0.4, "who asks": 0.05, "all else": 0.9}
    assert cpu_ms(used, 20) == {"to rank": 50, "to ask": 2.5}


def test_options_change_the_deployments_named_alone():
    """A config file's entries get options, lose those that are None, and others stay."""
    usual, changed = config_of(DAG), config_of(DAG, {"max_surge_percent": None, "x": 1}, ["Ranker"])
    for before, after in zip(
        *(config["applications"][0]["deployments"] for config in (usual, changed)), strict=True
    ):
        if before["name"] == "Ranker":
            before = {**before, "x": 1}
            del before["max_surge_percent"]
        assert after == before


def test_a_server_ends_that_hears_no_interrupt():
    """What a shell starts in the background ignores SIGINT; its stdin ends all the same."""
    deaf = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.stdin.read()"
    with _running([sys.executable, "-c", deaf], {}) as process:
        pass
    assert process.returncode == 0

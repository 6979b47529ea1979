"""Rounds of a served feed, from its log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from configs import ConfigError, check, load
from pipelines.data.reader import MissingInputError
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from train.online.__main__ import ServedConfig, advance, main
from train.online.arms import OnlineConfig, begin
from train.online.served import pages, rewards

SETTING = "scorers.out_of_network.factor"


def write_events(folder: Path, rows: list[dict]) -> str:
    """Events with outcomes, as Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema_overrides={"favorite": pl.Boolean}).write_parquet(
        folder / "part-00000.parquet"
    )
    return str(folder)


def shown(user: int, request: str, at_ms: int, favorite: bool | None, dwell_s: float = 1.0) -> dict:
    """One impression."""
    return {
        "user_id": user,
        "request_id": request,
        "shown_at_ms": at_ms,
        "favorite": favorite,
        "dwell_s": dwell_s,
    }


@pytest.fixture
def served(tmp_path: Path):
    """Makes the settings of a controller of the small world's feed."""

    def make(**given: object) -> ServedConfig:
        values = {
            "setting": SETTING,
            "low": 0.1,
            "feed": "configs/feed.yaml",
            "events": str(tmp_path / "events"),
            "out": str(tmp_path / "online"),
            "min_pages": 20,
            "settle_s": 0.5,
        }
        return check(values | given, ServedConfig, place="test")

    return make


def test_a_page_earns_what_was_done_on_it(tmp_path: Path):
    """By weight over its posts of the round; not told is left out and counted."""
    events = write_events(
        tmp_path / "events",
        [
            shown(1, "a", 100, True, 2.0),
            shown(1, "a", 101, True, 3.0),
            shown(2, "b", 102, False, 0.5),
            shown(3, "c", 103, True),
            shown(3, "c", 104, None),
            shown(4, "old", 99, True),
            shown(5, "search/d", 105, True),  # a page of another feed, which has no arms
        ],
    )
    config = OnlineConfig(reward={"favorite": 2.0, "dwell_time": 0.1})
    found, left_out = pages(events, begin(config, since_ms=100), config)

    assert found["request_id"].to_list() == ["a", "b"]
    np.testing.assert_allclose(found["reward"].to_numpy(), [4.5, 0.05])
    assert left_out == 1


def test_pages_belong_to_the_arm_that_served_them():
    """Each page's reward is its viewer's arm's, as `Experiment` shares viewers out."""
    config = OnlineConfig(num_arms=3)
    experiment = begin(config).experiment(config)
    users = list(range(1, 60))
    found = pl.DataFrame({"user_id": users, "reward": [float(user) for user in users]})
    by_arm = rewards(found, experiment, config.name)

    assert sum(map(len, by_arm.values())) == len(users)
    for arm, earned in by_arm.items():
        assert {experiment.arm_of("alpha", int(user)) for user in earned} == {f"arm_{arm}"}


def test_rounds_go_on_until_they_have_enough_pages(served, tmp_path: Path):
    """Begin; too few pages change nothing; enough of them make the next round's feed.yaml."""
    config, console = served(), Console(quiet=True)
    first = advance(config, 1000, console)
    feed = tmp_path / "online" / "alpha" / "feed.yaml"
    arms = load(feed, FeedConfig).experiments["alpha"].arms
    assert [arm.settings[SETTING] for arm in arms.values()] == list(first.values)
    Pipeline.build(load(feed, FeedConfig))  # can be served

    few = [shown(user, f"r{user}", 2000 + user, True) for user in range(1, 10)]
    write_events(tmp_path / "events", few)
    assert advance(config, 3000, console) == first

    experiment = first.experiment(config)
    best = "arm_5"
    many = [
        shown(user, f"r{user}", 2000 + user, experiment.arm_of("alpha", user) == best)
        for user in range(1, 300)
    ]
    write_events(tmp_path / "events", many)
    second = advance(config, 3000, console)
    assert (second.round, second.since_ms) == (1, 3500)  # once servers have it
    assert int(np.argmax(second.shares)) == 5
    assert load(feed, FeedConfig).experiments["alpha"].salt == "alpha-1"

    assert advance(config, 4000, console) == second  # all those pages are of the round before


def test_what_cannot_be_served_is_refused(served, tmp_path: Path):
    """A setting that no feed has, or a value that it does not allow, before any state is kept."""
    for given, message in (
        ({"setting": "scorers.out_of_network.fractor"}, "did you mean 'factor'"),
        ({"low": -2.0}, r"factor: Input should be greater than 0, got -2\.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            advance(served(**given), 0, Console(quiet=True))
    assert not (tmp_path / "online" / "alpha" / "state.json").exists()


def test_without_events_the_way_is_told(served, tmp_path: Path, capsys):
    """The missing folder and the command that fills it; the command exits with 1."""
    advance(served(), 0, Console(quiet=True))
    with pytest.raises(MissingInputError, match=r"pipelines\.data\.outcomes"):
        advance(served(), 0, Console(quiet=True))

    write_events(tmp_path / "events", [{"user_id": 1, "shown_at_ms": 5}])
    places = [f"events={tmp_path / 'events'}", f"out={tmp_path / 'online'}", f"setting={SETTING}"]
    assert main(["configs/online/alpha.yaml", "min_pages=20", "low=0.1", "beside={}", *places]) == 1
    assert "no column request_id" in capsys.readouterr().err

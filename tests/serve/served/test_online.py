"""α moves round by round on a running server, by what viewers do over HTTP."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from configs import load
from pipelines.data.outcomes import OutcomeConfig, outcomes
from pipelines.data.synthetic import World
from pipelines.whole import save_text
from tests.serve.served.feed import FEED, Served, eventually
from train.online.__main__ import ServedConfig, advance
from train.online.arms import State

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[3]
NUM_VIEWERS = 16
WINDOW_S = 0.5


@pytest.fixture
def alpha(served: Served, world: World) -> Iterator[Alpha]:
    """A controller of the running timeline, which is put back in the end."""
    liked = world.events.filter(world.events["favorite"])["user_id"].to_pylist()
    yield Alpha(served, [user for user, _ in Counter(liked).most_common(NUM_VIEWERS)])
    save_text(served.timeline, FEED.read_text())
    eventually(lambda: served.feed(1).json()["arms"] == {})


class Alpha:
    """What a person does around `python -m train.online`."""

    def __init__(self, served: Served, viewers: list[int]) -> None:
        """Nothing is begun; the viewers liked something before, so that there is a field."""
        self.served, self.viewers = served, viewers
        self._labelled = served.event_log.parent / "outcomes"

    @property
    def settings(self) -> ServedConfig:
        """Of configs/online/alpha.yaml, read again each time; a round has few pages here."""
        changes = {
            "method": "gradient",
            "high": 40.0,
            "feed": str(FEED),
            "events": str(self._labelled / "events"),
            "out": str(self.served.timeline.parents[1]),
            "min_pages": NUM_VIEWERS,
            "settle_s": 0,
        }
        given = [f"{name}={value}" for name, value in changes.items()]
        return load(ROOT / "configs" / "online" / "alpha.yaml", ServedConfig, given)

    def call(self) -> State:
        """One call of the command, at the time of the served feed, which has a clock of its own."""
        return advance(self.settings, self.served.feed(1).json()["now_ms"] + 1, Console(quiet=True))

    def taken_up(self, state: State) -> None:
        """Wait until pages are made by the round's arms."""
        arms = state.experiment(self.settings)
        one_of = {arms.arm_of("alpha", user): user for user in self.viewers}
        assert list(arms.arms) == sorted(one_of)
        for value, (arm, user) in zip(state.values, sorted(one_of.items()), strict=True):
            query = {
                "user_id": user,
                "post_id": self.served.feed(user).json()["posts"][0]["post_id"],
            }
            served = (arm, pytest.approx(value, rel=1e-6))
            eventually(lambda query=query, served=served: self.explained(query) == served)

    def explained(self, query: dict[str, int]) -> tuple[str | None, float | None]:
        """The viewer's arm, and what the field was multiplied by, as a post's explanation says."""
        told = self.served.http.get("/v1/explain", params=query).json()
        numbers = told["explanation"]["score"]["numbers"].get("interference")
        return told["arms"].get("alpha"), numbers and numbers["worth"] / numbers["field"]

    def round(self, state: State, liked: str) -> None:
        """Every viewer gets a page; those in the arm `liked` favorite its first post; labels."""
        arms, events = state.experiment(self.settings), []
        for user in self.viewers:
            page = self.served.feed(user).json()
            assert page["arms"] == {"alpha": arms.arm_of("alpha", user)}
            done = {"user_id": user, "post_id": page["posts"][0]["post_id"], "action": "favorite"}
            if page["arms"]["alpha"] == liked:
                place = {"at_ms": page["now_ms"] + 1, "request_id": page["request_id"]}
                events.append({"kind": "engagement", **done, **place})
        reply = self.served.http.post("/v1/events", json={"events": events})
        assert reply.status_code == 202
        time.sleep(WINDOW_S)
        last = self.served.feed(1).json()["request_id"]  # of the log's clock: windows are closed
        told = self.served.event_log.parent / "live" / "engagements"
        names = {event["request_id"] for event in events}
        eventually(lambda: last in pq.read_table(self.served.event_log)["request_id"].to_pylist())
        eventually(lambda: names <= set(pq.read_table(told)["request_id"].to_pylist()))
        outcomes(
            OutcomeConfig(
                impressions=[str(self.served.event_log)],
                engagements=[str(told)],
                out=str(self._labelled),
                window_h=WINDOW_S / 3600,
                observed=["favorite"],
            )
        )


def test_alpha_moves_by_what_viewers_do(alpha):
    """The server takes up each round, explains each viewer's α, and its log ends the round.

    Each call of the controller is one of a new process: what it knows is in its file.
    """
    states = [alpha.call()]
    for liked in ("arm_1", "arm_0"):
        alpha.taken_up(states[-1])
        alpha.round(states[-1], liked)
        states.append(alpha.call())
        assert alpha.call() == states[-1]  # all those pages are of the round before
    alpha.taken_up(states[-1])

    first, second, third = states
    assert [state.round for state in states] == [0, 1, 2]
    assert second.centre > max(first.centre, third.centre)
    assert all(0 <= value <= 40 for state in states for value in state.values)

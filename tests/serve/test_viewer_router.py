"""A viewer's requests reach one replica, whoever routes them and whoever else comes or goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentHandleSource, RequestMetadata
from ray.serve._private.test_utils import FAKE_REPLICA_DEPLOYMENT_ID, FakeRunningReplica
from ray.serve.request_router import PendingRequest

from serve.viewer_router import ViewerRouter, home

VIEWERS = [str(user_id) for user_id in range(1, 2_001)]
REPLICAS = st.dictionaries(st.text(min_size=1), st.integers(0, 40), min_size=1, max_size=8)
VIEWER = st.text(min_size=1)


def idle(*replicas: str) -> dict[str, int]:
    """Replicas with nothing to do."""
    return dict.fromkeys(replicas, 0)


@given(viewer=VIEWER, replicas=REPLICAS)
def test_a_home_does_not_depend_on_who_asks(viewer, replicas):
    """A viewer's replica is the same in any order of the replicas, and one of them."""
    turned = dict(reversed(replicas.items()))
    assert home(viewer, idle(*replicas)) == home(viewer, idle(*turned))
    assert home(viewer, idle(*replicas)) in replicas


@given(viewer=VIEWER, replicas=REPLICAS)
def test_a_replica_that_goes_takes_away_its_own_viewers_alone(viewer, replicas):
    """Who was at home elsewhere stays there; read backwards, a new replica takes from all alike."""
    before = home(viewer, idle(*replicas))
    for gone in replicas:
        if gone != before:
            assert home(viewer, idle(*(set(replicas) - {gone}))) == before


@given(viewer=VIEWER, replicas=REPLICAS, most_ahead=st.integers(0, 40))
def test_who_is_too_far_ahead_is_no_home(viewer, replicas, most_ahead):
    """The viewer's replica or none, and none just where it has too many more than another one."""
    mine = home(viewer, idle(*replicas))
    too_busy = replicas[mine] > min(replicas.values()) + most_ahead
    assert home(viewer, replicas, most_ahead) == (None if too_busy else mine)


def test_nobody_and_nowhere():
    """Requests of no viewer, and of any viewer while there are no replicas, have no home."""
    assert home("", idle("a", "b")) is None
    assert home("1", {}) is None


def test_a_second_replica_takes_half_of_the_viewers_and_gives_them_back():
    """From one to two and back to one, half of the viewers move, and each is then where it was."""
    one, two = ({v: home(v, idle(*names)) for v in VIEWERS} for names in (("a",), ("a", "b")))
    assert 0.45 < sum(two[v] == "b" for v in VIEWERS) / len(VIEWERS) < 0.55
    assert {home(v, idle("a")) for v in VIEWERS} == set(one.values())


def test_a_ninth_replica_takes_a_ninth():
    """Nine replicas have about as many viewers each, all of the ninth's from each of the eight."""
    eight = [f"replica-{number}" for number in range(8)]
    moved = [v for v in VIEWERS if home(v, idle(*eight)) != home(v, idle(*eight, "new"))]
    assert 0.07 < len(moved) / len(VIEWERS) < 0.16
    assert {home(v, idle(*eight)) for v in moved} == set(eight)


def routed(
    in_flight: dict[str, int], viewers: Sequence[str], request_id: str = "", slow: str = ""
) -> list[str]:
    """Which replica each viewer's request gets of these, by Serve's own router around ours.

    All at once; no replica has room for more than ten. `request_id` is that of all; "" = each has
    its own. `slow` has to be asked what it has to do, and takes a while to say.
    """

    async def route() -> list[str]:
        router = ViewerRouter(
            deployment_id=FAKE_REPLICA_DEPLOYMENT_ID,
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
        )
        replicas = [
            FakeRunningReplica(name, sleep_time_s=0.01 * (name == slow)) for name in in_flight
        ]
        for replica in replicas:
            replica.set_queue_len_response(in_flight[replica.replica_id.unique_id])
        router.update_replicas(replicas)
        for id_ in (replica.replica_id for replica in replicas):
            if id_.unique_id != slow:
                router.on_new_queue_len_info(id_, in_flight[id_.unique_id])
        chosen = await asyncio.wait_for(
            asyncio.gather(
                *(
                    router._choose_replica_for_request(
                        PendingRequest(
                            [],
                            {},
                            RequestMetadata(
                                request_id=request_id or f"request-{number}",
                                internal_request_id=request_id or f"request-{number}",
                                session_id=viewer,
                            ),
                        )
                    )
                    for number, viewer in enumerate(viewers)
                )
            ),
            timeout=30,
        )
        return [replica.replica_id.unique_id for replica in chosen]

    return asyncio.run(route())


@pytest.mark.parametrize("request_id", ["", "of one page"])
def test_concurrent_requests_each_reach_their_viewers_replica(request_id):
    """None gets the replica that was chosen for another one, also where one page makes them all."""
    replicas, viewers = idle("a", "b", "c"), VIEWERS[:100]
    homes = [home(v, replicas) for v in viewers]
    assert routed(replicas, viewers, request_id) == homes
    assert routed(replicas, viewers, request_id, slow="b") == homes


def test_whose_replica_is_full_gets_another_one():
    """A full replica is passed over, and so is one that is far ahead."""
    (viewer,) = [v for v in VIEWERS if home(v, idle("a", "b")) == "a"][:1]
    assert routed({"a": 10, "b": 9}, [viewer]) == ["b"]
    assert routed({"a": 9, "b": 0}, [viewer]) == ["b"]
    assert routed({"a": 2, "b": 0}, [viewer]) == ["a"]


def test_requests_of_nobody_go_where_they_went():
    """Without a viewer the choice is Serve's usual one: of two, the one with less to do."""
    assert set(routed({"a": 5, "b": 0}, [""] * 4)) == {"b"}

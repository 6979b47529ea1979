"""The feed over gRPC, through HAProxy: the same pages, and refusals in its own words."""

from __future__ import annotations

import grpc
import pytest

from serve.rpc.scored_posts_pb2 import ScoredPostsRequest
from tests.conftest import UNKNOWN_USER
from tests.serve.served.feed import eventually

pytestmark = pytest.mark.ray


def test_grpc_gives_the_page_that_http_gives(served):
    """The posts of a stranger are the same over both; a viewer's are where explain puts them."""
    stranger = ScoredPostsRequest(viewer_id=UNKNOWN_USER + 1, limit=5)
    page, same = served.rpc(stranger), served.feed(UNKNOWN_USER + 2).json()
    assert (page.cold_start, list(page.degraded)) == (True, [])
    assert [post.post_id for post in page.posts] == [post["post_id"] for post in same["posts"]]
    page = served.rpc(ScoredPostsRequest(viewer_id=7, limit=5))
    assert (page.cold_start, len(page.posts)) == (False, 5)
    for place, post in enumerate(page.posts, start=1):
        query = {"user_id": 7, "post_id": post.post_id, "limit": 5}
        told = served.http.get("/v1/explain", params=query).json()["explanation"]
        assert (told["outcome"], told["place"]) == ("served", place)
        assert told["score"]["score"] == pytest.approx(post.score, rel=1e-5)


@pytest.mark.parametrize(
    ("asked", "metadata", "timeout_s", "code", "said"),
    [
        ({"viewer_id": 0}, (), 30, "INVALID_ARGUMENT", "viewer_id: Input should be greater than"),
        ({"viewer_id": 1, "limit": 101}, (), 30, "INVALID_ARGUMENT", "limit: Input should be less"),
        ({"viewer_id": 1}, (("application", "other"),), 30, "NOT_FOUND", "'other' not found"),
        ({"viewer_id": 1}, (), 0.001, "DEADLINE_EXCEEDED", "Deadline"),
    ],
)
def test_grpc_says_why_there_is_no_page(served, asked, metadata, timeout_s, code, said):
    """A code and words for a bad request, an application that is not there, a deadline."""
    with pytest.raises(grpc.RpcError) as refused:
        served.rpc(ScoredPostsRequest(**asked), metadata=metadata, timeout=timeout_s)
    assert refused.value.code().name == code
    assert said in refused.value.details()
    eventually(lambda: served.http.get("/healthz").json()["in_flight"] == 0)


def test_overload_over_grpc_says_when_to_try_again(served):
    """A request too many is RESOURCE_EXHAUSTED with the time to wait; everybody else is served."""
    calls = [served.calling(ScoredPostsRequest(viewer_id=one)) for one in range(1, 97)]
    refused = [call for call in calls if call.code() != grpc.StatusCode.OK]
    assert 0 < len(refused) < len(calls)
    assert {call.code().name for call in refused} == {"RESOURCE_EXHAUSTED"}
    waits = [dict(call.trailing_metadata()).get("grpc-retry-pushback-ms") for call in refused]
    assert "3000" in waits
    assert served.rpc(ScoredPostsRequest(viewer_id=1)).posts

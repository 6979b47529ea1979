"""`python -m serve.rpc` against a server on a free port of loopback."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from serve.rpc.__main__ import main
from serve.rpc.scored_posts_pb2 import ScoredPost, ScoredPostsRequest, ScoredPostsResponse
from serve.rpc.scored_posts_pb2_grpc import (
    ScoredPostsServiceServicer,
    add_ScoredPostsServiceServicer_to_server,
)


class OnePost(ScoredPostsServiceServicer):
    """Answers with the viewer's id as a post; refuses viewer 0."""

    def GetScoredPosts(  # noqa: N802  # as scored_posts.proto has it
        self, request: ScoredPostsRequest, context: Any
    ) -> ScoredPostsResponse:
        if not request.viewer_id:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "viewer_id: too small")
        post = ScoredPost(post_id=request.viewer_id, score=0.25, reason=f"of {request.limit}")
        return ScoredPostsResponse(posts=[post], degraded=["scorers.value"], model_version="v1")


@pytest.fixture
def address() -> Iterator[str]:
    """Where the server listens."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        add_ScoredPostsServiceServicer_to_server(OnePost(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(grace=None).wait()


def run(monkeypatch, *arguments: str) -> int:
    """The command's exit status."""
    monkeypatch.setattr("sys.argv", ["serve.rpc", *arguments])
    return main()


def test_the_page_is_printed(monkeypatch, capsys, address):
    """Each post with its score and reason, and what the page was done without."""
    assert run(monkeypatch, "--viewer", "4711", "--limit", "3", "--address", address) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("4711", "0.2500", "of 3", "scorers.value", "v1"))


def test_a_refusal_is_one_line(monkeypatch, capsys, address):
    """Where there is no page, the address, the code and the reason, without a traceback."""
    assert run(monkeypatch, "--viewer", "0", "--address", address) == 2
    assert capsys.readouterr().err == f"{address}: INVALID_ARGUMENT: viewer_id: too small\n"

"""`python -m serve.rpc --viewer ID [--address HOST:PORT]`: print a page asked for over gRPC."""

from __future__ import annotations

import argparse
import sys

import grpc
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from serve.rpc.scored_posts_pb2 import ScoredPostsRequest, ScoredPostsResponse
from serve.rpc.scored_posts_pb2_grpc import ScoredPostsServiceStub

_TIMEOUT_S = 10.0


def main() -> int:
    """Ask once; the exit status is 2 where there is no page."""
    parser = argparse.ArgumentParser(prog="python -m serve.rpc", description=__doc__)
    parser.add_argument("--viewer", type=int, required=True, help="whose page")
    parser.add_argument("--address", default="127.0.0.1:9000", help="where the feed listens")
    parser.add_argument("--limit", type=int, default=0, help="posts wanted; 0 = 20")
    chosen = parser.parse_args()
    request = ScoredPostsRequest(viewer_id=chosen.viewer, limit=chosen.limit)
    with grpc.insecure_channel(chosen.address) as channel:
        try:
            page = ScoredPostsServiceStub(channel).GetScoredPosts(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            print(f"{chosen.address}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 2
    _show(page)
    return 0


def _show(page: ScoredPostsResponse) -> None:
    table = Table("post", "author", "score", "in network", "from", "why", box=SIMPLE)
    for post in page.posts:
        network = {True: "yes", False: "no"}[post.in_network] if post.HasField("in_network") else ""
        ids = str(post.post_id), str(post.author_id)
        table.add_row(*ids, f"{post.score:.4f}", network, ", ".join(post.served_type), post.reason)
    console = Console()
    console.print(table)
    kind = "nobody's own: the viewer is unknown" if page.cold_start else "the viewer's own"
    console.print(f"Page {page.request_id}, {kind}; model {page.model_version}.", highlight=False)
    if page.degraded:
        console.print(f"Done without: {', '.join(page.degraded)}.", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
